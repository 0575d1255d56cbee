#include "rows_file.hpp"

#include <algorithm>
#include <limits>

#include "moesaic/base/contract.hpp"
#include "tokens.hpp"

namespace moesaic {
namespace {

bool holds_integers(const Hdf5Array& array) {
  return array.type && (converts_to<std::int64_t>(*array.type) || *array.type == StorageType::u64);
}

/// Unsigned values beyond 63 bits become negative, and are refused like any other bad token.
StorageType readable(StorageType type) { return type == StorageType::u64 ? StorageType::i64 : type; }

bool needs_hdf5(const std::optional<Hdf5Array>& array) { return array && !array->offset; }

}  // namespace

RowsFile::RowsFile(const std::string& path, const DataSettings& settings, std::int64_t vocabulary)
    : bytes_(path), hdf5_(Hdf5File::open_serial(path)), tokens_(hdf5_->array("/tokens")),
      separator_(settings.separator), vocabulary_(vocabulary) {
  check_tokens(settings.sequence);
  loss_mask_ = find_beside("/loss_mask");
  if (!separator_) document_ = find_beside("/document");
  if (tokens_.offset && !needs_hdf5(loss_mask_) && !needs_hdf5(document_)) hdf5_.reset();
  check_first_rows();
}

void RowsFile::check_tokens(std::int64_t sequence) const {
  MOESAIC_VALIDATE(holds_integers(tokens_),
                   "{}: '/tokens' does not hold integers (they are token ids); store it as an integer type", path());
  MOESAIC_VALIDATE(tokens_.shape.size() == 2,
                   "{}: '/tokens' has the shape {} (it must be [rows, sequence + 1]); write it as rows", path(),
                   to_text(tokens_.shape));
  MOESAIC_VALIDATE(rows() > 0, "{}: '/tokens' has no row (there is nothing to train on); name another file", path());
  MOESAIC_VALIDATE(columns() == sequence + 1,
                   "{}: '/tokens' has {} columns, data.sequence = {} needs {} (inputs, and labels one further); set "
                   "data.sequence = {} or write rows of {} tokens",
                   path(), columns(), sequence, sequence + 1, columns() - 1, sequence + 1);
}

std::optional<Hdf5Array> RowsFile::find_beside(const std::string& name) const {
  if (!hdf5_->contains(name)) return std::nullopt;
  Hdf5Array array = hdf5_->array(name);
  MOESAIC_VALIDATE(holds_integers(array), "{}: '{}' does not hold integers; store it as an integer type", path(), name);
  MOESAIC_VALIDATE(array.shape == tokens_.shape,
                   "{}: '{}' has the shape {}, '/tokens' has {} (each token needs its own); write both alike", path(),
                   name, to_text(array.shape), to_text(tokens_.shape));
  return array;
}

void RowsFile::check_first_rows() const {
  const std::int64_t looked_at = std::clamp<std::int64_t>(tokens_checked_at_opening / columns(), 1, rows());
  check_ids(elements(tokens_, {0, looked_at * columns()}), 0);
}

std::vector<std::int64_t> RowsFile::elements(const Hdf5Array& array, Block range) const {
  if (!array.offset) return hdf5_->read_integers(array.name, range);
  const std::int64_t width = size_of(*array.type);
  std::vector<char> stored(static_cast<std::size_t>(range.size() * width));
  bytes_.read_at(*array.offset + range.begin * width, stored.data(), std::ssize(stored));
  std::vector<std::int64_t> values(static_cast<std::size_t>(range.size()));
  convert(readable(*array.type), stored.data(), range.size(), values.data());
  return values;
}

void RowsFile::check_ids(std::span<const std::int64_t> ids, std::int64_t first) const {
  const std::int64_t bad = first_outside(ids, vocabulary_);
  if (bad == std::ssize(ids)) return;
  refuse_id(path(), fmt::format("row {}, column {}", first + bad / columns(), bad % columns()),
            ids[static_cast<std::size_t>(bad)], vocabulary_);
}

void RowsFile::read(std::int64_t row, Sample& sample) const {
  MOESAIC_EXPECT(0 <= row && row < rows());
  const Block range{row * columns(), (row + 1) * columns()};
  const std::vector<std::int64_t> ids = elements(tokens_, range);
  check_ids(ids, row);
  sample.tokens.resize(ids.size());
  std::ranges::transform(ids, sample.tokens.begin(), [](std::int64_t id) { return static_cast<std::int32_t>(id); });
  read_counted(range, sample);
  read_documents(range, sample);
}

void RowsFile::read_counted(Block range, Sample& sample) const {
  sample.counted.clear();
  if (!loss_mask_) return;
  for (std::int64_t mark : elements(*loss_mask_, range)) sample.counted.push_back(mark == 1 ? 1 : 0);
}

void RowsFile::read_documents(Block range, Sample& sample) const {
  sample.documents.clear();
  if (separator_) number_documents(sample.tokens, *separator_, sample.documents);
  if (!document_) return;
  using Limits = std::numeric_limits<std::int32_t>;
  for (std::int64_t document : elements(*document_, range)) {
    MOESAIC_VALIDATE(Limits::min() <= document && document <= Limits::max(),
                     "{}: '/document' holds {} in row {} (32 bits are kept); number the documents within a row", path(),
                     document, range.begin / columns());
    sample.documents.push_back(static_cast<std::int32_t>(document));
  }
}

}  // namespace moesaic
