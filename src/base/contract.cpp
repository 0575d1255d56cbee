#include "moesaic/base/contract.hpp"

namespace moesaic::detail {

void contract_failed(const char* kind, const char* condition, const char* file, int line) {
  throw ContractError(
      fmt::format("{} failed: {} ({}:{}); this is a defect in moesaic, please report it", kind, condition, file, line));
}

}  // namespace moesaic::detail
