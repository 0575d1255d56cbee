#pragma once
/// Errors of the CUDA operators, raised from a file that nvcc need not read.

#include "moesaic/tensor/dtype.hpp"

#include <string_view>

namespace moesaic::cuda {

/// Throws ContractError: `operator_name` has no kernel for these storage types (`expected` says which exist).
[[noreturn]] void refuse_types(std::string_view operator_name, DType first, DType second, std::string_view expected);

}  // namespace moesaic::cuda
