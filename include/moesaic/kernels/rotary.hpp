#pragma once
/// Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// Which elements form a pair: i and i + width/2 (Llama, Qwen), or 2i and 2i + 1 (DeepSeek).
enum class RotaryPairs : bool { halves, interleaved };
/// backward turns by the negative angle, which is the gradient of forward.
enum class RotaryDirection : bool { forward, backward };

/// In place, for each token t, head h and pair (a, b) number i with p = positions[t]:
///   (a, b) = (a cos[p,i] - b sin[p,i], b cos[p,i] + a sin[p,i]).
/// x: [tokens, heads, width], leading dimensions may be strided; cosine, sine: [positions, width/2], accumulator type;
/// positions: i32 [tokens].
using Rotary = void(const OperatorContext&, View x, ConstView cosine, ConstView sine, ConstView positions,
                    RotaryPairs pairs, RotaryDirection direction);

namespace reference {
Rotary rotary;
}

namespace cuda {
Rotary rotary;
}  // namespace cuda

}  // namespace moesaic
