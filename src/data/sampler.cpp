#include "moesaic/data/sampler.hpp"

#include <fmt/format.h>

#include "moesaic/base/contract.hpp"
#include "moesaic/base/random.hpp"

namespace moesaic {

Sampler::Sampler(std::int64_t rows, bool shuffle, std::uint64_t seed) : rows_(rows), shuffle_(shuffle), seed_(seed) {
  MOESAIC_EXPECT(rows > 0);
}

std::int64_t Sampler::row(std::int64_t sample) const {
  MOESAIC_EXPECT(sample >= 0);
  const std::int64_t pass = sample / rows_, index = sample % rows_;
  if (!shuffle_) return index;
  return Permutation(random_key(seed_, fmt::format("data.shuffle.{}", pass)), rows_)(index);
}

}  // namespace moesaic
