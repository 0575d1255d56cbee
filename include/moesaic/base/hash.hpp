#pragma once
/// A fast hash of bytes for keys and for finding damaged data; no protection against intent.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace moesaic {

/// XXH64 as its public specification defines it: the same value on every machine. Example: hash64("abc") =
/// 0x44bc2cf5ad770999.
std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed = 0);
std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0);

}  // namespace moesaic
