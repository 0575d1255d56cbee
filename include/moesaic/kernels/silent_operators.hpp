#pragma once
/// Operators that compute nothing: a step with them takes memory and exchanges messages as a real one does, in no time.

#include "moesaic/kernels/operators.hpp"

namespace moesaic {

/// Every operator, doing nothing. Those for `device` = cuda take the scratch of attention's backward
/// (attention_backward_workspace); the reference ones
/// take none to speak of.
const Operators& silent_operators(DeviceKind device);

}  // namespace moesaic
