#include "synthetic.hpp"

#include "moesaic/base/contract.hpp"
#include "moesaic/base/random.hpp"
#include "tokens.hpp"

namespace moesaic {

Synthetic::Synthetic(std::int64_t rows, const DataSettings& settings, std::int64_t vocabulary, std::uint64_t key)
    : rows_(rows), sequence_(settings.sequence), separator_(settings.separator), vocabulary_(vocabulary), key_(key) {}

void Synthetic::read(std::int64_t row, Sample& sample) const {
  MOESAIC_EXPECT(0 <= row && row < rows_);
  sample = {};
  const auto first = static_cast<std::uint64_t>(row * (sequence_ + 1));
  for (std::uint64_t column = 0; column <= static_cast<std::uint64_t>(sequence_); ++column) {
    const std::uint64_t bits = random_bits(key_, first + column);
    sample.tokens.push_back(static_cast<std::int32_t>(bits % static_cast<std::uint64_t>(vocabulary_)));
  }
  if (separator_) number_documents(sample.tokens, *separator_, sample.documents);
}

}  // namespace moesaic
