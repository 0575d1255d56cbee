#include "text_file.hpp"

#include <algorithm>
#include <utility>

#include "moesaic/base/contract.hpp"
#include "tokens.hpp"

namespace moesaic {

TextFile::TextFile(InputFile file, Block part, const DataSettings& settings, std::int64_t vocabulary)
    : file_(std::move(file)), part_(part), sequence_(settings.sequence), separator_(settings.separator),
      vocabulary_(vocabulary) {
  MOESAIC_VALIDATE(part_.size() > sequence_,
                   "{}: its {} bytes from byte {} on hold no row of data.sequence + 1 = {} bytes (there is nothing to "
                   "read); name a longer text, lower data.sequence, or change data.validation",
                   file_.path().string(), part_.size(), part_.begin, sequence_ + 1);
  bytes({part_.begin, part_.begin + std::min(part_.size(), tokens_checked_at_opening)});
}

std::vector<std::int64_t> TextFile::bytes(Block range) const {
  std::vector<std::uint8_t> stored(static_cast<std::size_t>(range.size()));
  file_.read_at(range.begin, stored.data(), range.size());
  std::vector<std::int64_t> ids(stored.begin(), stored.end());
  const std::int64_t bad = first_outside(ids, vocabulary_);
  if (bad == range.size()) return ids;
  // The row in which it is a label; the first byte of all is none.
  const std::int64_t position = range.begin + bad;
  const std::int64_t row = std::max<std::int64_t>(position - part_.begin - 1, 0) / sequence_;
  refuse_id(file_.path().string(), fmt::format("row {} (byte {})", row, position), ids[static_cast<std::size_t>(bad)],
            vocabulary_);
}

void TextFile::read(std::int64_t row, Sample& sample) const {
  MOESAIC_EXPECT(0 <= row && row < rows());
  const std::int64_t begin = part_.begin + row * sequence_;
  const std::vector<std::int64_t> ids = bytes({begin, begin + sequence_ + 1});
  sample.tokens.resize(ids.size());
  std::ranges::transform(ids, sample.tokens.begin(), [](std::int64_t id) { return static_cast<std::int32_t>(id); });
  sample.counted.clear();
  sample.documents.clear();
  if (separator_) number_documents(sample.tokens, *separator_, sample.documents);
}

}  // namespace moesaic
