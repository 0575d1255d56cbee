#include "refuse.hpp"

#include "moesaic/base/contract.hpp"

namespace moesaic::cuda {

void refuse_types(std::string_view operator_name, DType first, DType second, std::string_view expected) {
  throw ContractError(
      fmt::format("CUDA operator {} was given {} and {} (there are kernels for {}); convert with copy "
                  "first, or run on the CPU",
                  operator_name, name_of(first), name_of(second), expected));
}

void expect_f32(std::string_view operator_name, DType type) {
  if (type != DType::f32) refuse_types(operator_name, type, type, "f32");
}

void expect_at_most(std::string_view operator_name, std::string_view what, std::int64_t value, std::int64_t most) {
  if (value <= most) return;
  throw ContractError(fmt::format("CUDA operator {} was given {} {} (its kernel holds at most {}); run on the CPU",
                                  operator_name, what, value, most));
}

}  // namespace moesaic::cuda
