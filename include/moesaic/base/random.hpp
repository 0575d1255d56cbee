#pragma once
/// Random numbers as pure functions of a key and an index: no state, so any rank draws any part of a sequence
/// and gets the same bits. Generator: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as
/// easy as 1, 2, 3", 2011).

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace moesaic {

/// Four random words of a 128-bit counter and a 64-bit key; ten rounds.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// The key of a named sequence, e.g. random_key(seed, "model.embed_tokens.weight").
std::uint64_t random_key(std::uint64_t seed, std::string_view name);

/// 64 random bits.
std::uint64_t random_bits(std::uint64_t key, std::uint64_t index);

/// Uniform in [0, 1), a multiple of 2^-53.
double uniform(std::uint64_t key, std::uint64_t index);

/// Standard normal by Box and Muller (1958): r = sqrt(-2 ln u), then r cos(2 pi v) and r sin(2 pi v);
/// computed in double and rounded once. `index` is the global index of the element. |normal| < 6.8.
float normal(std::uint64_t key, std::uint64_t index);

/// out[i] = stddev * normal(key, first_index + i), rounded to float: the same bits whatever the range. One
/// generator call makes four neighbours, so this is four times cheaper than single calls.
void fill_normal(std::uint64_t key, std::uint64_t first_index, std::span<float> out, double stddev);

/// A keyed bijection of [0, size), computed at any index in constant expected time and memory: a Feistel
/// network over the next even power of two, walked along its cycle until it lands inside (Black and Rogaway,
/// 2002).
class Permutation {
 public:
  /// 1 <= size <= 2^62.
  Permutation(std::uint64_t key, std::int64_t size);

  std::int64_t size() const { return size_; }
  /// Where `index` goes; `index` in [0, size).
  std::int64_t operator()(std::int64_t index) const;

 private:
  static constexpr int rounds = 8;
  std::uint64_t encrypt(std::uint64_t value) const;

  std::int64_t size_;
  int half_bits_;
  std::uint64_t half_mask_;
  std::array<std::uint64_t, rounds> round_keys_;
};

}  // namespace moesaic
