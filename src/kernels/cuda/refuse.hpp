#pragma once
/// Errors of the CUDA operators, raised from a file that nvcc need not read.

#include "moesaic/tensor/dtype.hpp"

#include <cstdint>
#include <string_view>

namespace moesaic::cuda {

/// Throws ContractError: `operator_name` has no kernel for these storage types (`expected` says which exist).
[[noreturn]] void refuse_types(std::string_view operator_name, DType first, DType second, std::string_view expected);

/// Throws ContractError unless the type is f32, of operators whose arguments are all of the accumulator type.
void expect_f32(std::string_view operator_name, DType type);

/// Throws ContractError when `value` (of what `what` names) is above the largest that the operator has a kernel for.
void expect_at_most(std::string_view operator_name, std::string_view what, std::int64_t value, std::int64_t most);

}  // namespace moesaic::cuda
