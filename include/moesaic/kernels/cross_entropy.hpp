#pragma once
/// Next-token cross entropy. One buffer of logits: backward turns it into its own gradient.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// log_sum_exp [tokens] of each row of logits [tokens, vocabulary]; losses [tokens] = log_sum_exp - logits[t, labels[t]],
/// 0 where the label is -1 (not counted). labels: i32 [tokens]; losses, log_sum_exp: accumulator type.
using CrossEntropyForward = void(const OperatorContext&, ConstView logits, ConstView labels, View losses,
                                 View log_sum_exp);

/// In place: logits[t] = scale * (softmax(logits[t]) - onehot(labels[t])), 0 where the label is -1.
using CrossEntropyBackward = void(const OperatorContext&, View logits, ConstView labels, ConstView log_sum_exp,
                                  double scale);

namespace reference {
CrossEntropyForward cross_entropy_forward;
CrossEntropyBackward cross_entropy_backward;
}  // namespace reference

namespace cuda {
CrossEntropyForward cross_entropy_forward;
CrossEntropyBackward cross_entropy_backward;
}  // namespace cuda

}  // namespace moesaic
