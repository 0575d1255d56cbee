#pragma once
/// The angles of rotary positions, computed once.

#include "moesaic/layers/rope.hpp"
#include "moesaic/tensor/arena.hpp"

namespace moesaic {

/// cosine and sine of position times rotary_frequencies, times rotary_factor, [positions, width / 2], computed in double.
class RotaryTable {
 public:
  /// type: the accumulator type. The tables live in `arena` (Label::batch) as long as this object.
  RotaryTable(Arena& arena, DType type, std::int64_t positions, std::int64_t width, const RopeSpec& rope);
  RotaryTable(Arena& arena, DType type, std::int64_t positions, std::int64_t width, double theta)
      : RotaryTable(arena, type, positions, width, RopeSpec{.theta = theta}) {}

  ConstView cosine() const { return cosine_; }
  ConstView sine() const { return sine_; }
  std::int64_t positions() const { return cosine_.view().extent(0); }

 private:
  Tensor cosine_;
  Tensor sine_;
};

}  // namespace moesaic
