#include "moesaic/kernels/head_norm_rotary.hpp"

#include "moesaic/base/contract.hpp"
#include "moesaic/kernels/rms_norm.hpp"
#include "moesaic/kernels/rotary.hpp"

namespace moesaic::reference {
namespace {

/// The elements of each head that turn.
View turned(const View& heads, const ConstView& cosine) {
  MOESAIC_EXPECT(heads.rank() == 3 && heads.extent(2) % 2 == 0 && 2 * cosine.extent(1) <= heads.extent(2));
  return heads.slice(2, 0, 2 * cosine.extent(1));
}

}  // namespace

void head_norm_rotary_forward(const OperatorContext& context, ConstView x, ConstView weight, double eps,
                              ConstView cosine, ConstView sine, ConstView positions, View y, View inverse_rms) {
  rms_norm_forward(context, x, weight, eps, y, inverse_rms);
  rotary(context, turned(y, cosine), cosine, sine, positions, RotaryPairs::halves, RotaryDirection::forward);
}

void head_norm_rotary_backward(const OperatorContext& context, ConstView x, ConstView weight, ConstView inverse_rms,
                               ConstView cosine, ConstView sine, ConstView positions, View gradient,
                               View weight_gradient) {
  rotary(context, turned(gradient, cosine), cosine, sine, positions, RotaryPairs::halves, RotaryDirection::backward);
  rms_norm_backward(context, x, weight, inverse_rms, gradient, 0, gradient, weight_gradient);
}

}  // namespace moesaic::reference
