#pragma once
/// Which row is sample number i: a pure function, the same on every grid.

#include <cstdint>

namespace moesaic {

/// Samples count from 0 over the whole run. Unshuffled, sample i is row i mod rows. Shuffled, each pass over the rows
/// is a permutation of its own, keyed by seed and pass.
class Sampler {
 public:
  /// rows > 0.
  Sampler(std::int64_t rows, bool shuffle, std::uint64_t seed);
  /// sample >= 0.
  std::int64_t row(std::int64_t sample) const;

 private:
  std::int64_t rows_;
  bool shuffle_;
  std::uint64_t seed_;
};

}  // namespace moesaic
