#include "moesaic/base/hash.hpp"

#include <array>
#include <bit>
#include <cstring>

namespace moesaic {
namespace {

static_assert(std::endian::native == std::endian::little, "XXH64 reads little-endian words");

constexpr std::uint64_t prime1 = 0x9e3779b185ebca87u;
constexpr std::uint64_t prime2 = 0xc2b2ae3d27d4eb4fu;
constexpr std::uint64_t prime3 = 0x165667b19e3779f9u;
constexpr std::uint64_t prime4 = 0x85ebca77c2b2ae63u;
constexpr std::uint64_t prime5 = 0x27d4eb2f165667c5u;
constexpr std::size_t stripe = 32;

template <class Word> std::uint64_t read(const std::byte* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

std::uint64_t accumulate(std::uint64_t lane, std::uint64_t word) {
  return std::rotl(lane + word * prime2, 31) * prime1;
}

/// Whole stripes of four words, a lane each; advances `at` behind them.
std::uint64_t hash_stripes(const std::byte*& at, const std::byte* end, std::uint64_t seed) {
  std::array<std::uint64_t, 4> lanes{seed + prime1 + prime2, seed + prime2, seed, seed - prime1};
  for (; at + stripe <= end; at += stripe)
    for (std::size_t i = 0; i < lanes.size(); ++i) lanes[i] = accumulate(lanes[i], read<std::uint64_t>(at + 8 * i));
  std::uint64_t hash =
      std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
  for (std::uint64_t lane : lanes) hash = (hash ^ accumulate(0, lane)) * prime1 + prime4;
  return hash;
}

/// The fewer than 32 bytes behind the last whole stripe.
std::uint64_t hash_tail(std::uint64_t hash, const std::byte* at, const std::byte* end) {
  for (; at + 8 <= end; at += 8) hash = std::rotl(hash ^ accumulate(0, read<std::uint64_t>(at)), 27) * prime1 + prime4;
  if (at + 4 <= end) {
    hash = std::rotl(hash ^ (read<std::uint32_t>(at) * prime1), 23) * prime2 + prime3;
    at += 4;
  }
  for (; at < end; ++at) hash = std::rotl(hash ^ (read<std::uint8_t>(at) * prime5), 11) * prime1;
  return hash;
}

std::uint64_t avalanche(std::uint64_t hash) {
  hash = (hash ^ (hash >> 33)) * prime2;
  hash = (hash ^ (hash >> 29)) * prime3;
  return hash ^ (hash >> 32);
}

}  // namespace

std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed) {
  const std::byte* at = bytes.data();
  const std::byte* end = at + bytes.size();
  std::uint64_t hash = bytes.size() >= stripe ? hash_stripes(at, end, seed) : seed + prime5;
  return avalanche(hash_tail(hash + bytes.size(), at, end));
}

std::uint64_t hash64(std::string_view text, std::uint64_t seed) {
  return hash64(std::as_bytes(std::span(text.data(), text.size())), seed);
}

}  // namespace moesaic
