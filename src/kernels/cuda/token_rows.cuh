#pragma once
/// Rows of all tokens, of which a kernel finds those of slots by index.

#include "moesaic/tensor/view.hpp"

#include <cstdint>

namespace moesaic::cuda::hopper {

struct TokenRows {
  const bf16* data;
  std::uint32_t chunks;  ///< of 16 bytes from one to the next
  const std::int32_t* slot_token;
};

inline TokenRows token_rows(ConstView tokens, ConstView slot_token) {
  constexpr std::int64_t chunk = 8;
  return {tokens.data<bf16>(), static_cast<std::uint32_t>(tokens.stride(0) / chunk), slot_token.data<std::int32_t>()};
}

}  // namespace moesaic::cuda::hopper
