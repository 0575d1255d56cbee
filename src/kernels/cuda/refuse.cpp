#include "refuse.hpp"

#include "moesaic/base/contract.hpp"

namespace moesaic::cuda {

void refuse_types(std::string_view operator_name, DType first, DType second, std::string_view expected) {
  throw ContractError(
      fmt::format("CUDA operator {} was given {} and {} (there are kernels for {}); convert with copy "
                  "first, or run on the CPU",
                  operator_name, name_of(first), name_of(second), expected));
}

}  // namespace moesaic::cuda
