#pragma once
/// What backward computes again instead of forward keeping it: memory against time, the results are the same bits.

#include <cstdint>

namespace moesaic {

/// Of each transformer block. The routing of the forward is always kept: computing it again could route differently, and
/// would count it twice.
enum class Recompute : std::uint8_t {
  none,
  block,      ///< all but the block's input: attention, norms and feed-forward
  selective,  ///< the feed-forward (experts and their dispatch, or the dense one); attention and norms are kept
};

}  // namespace moesaic
