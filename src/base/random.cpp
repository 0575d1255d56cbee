#include "moesaic/base/random.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "moesaic/base/contract.hpp"
#include "moesaic/base/hash.hpp"

namespace moesaic {
namespace {

/// The third word of the counter keeps bits and normals of one key apart.
enum class Use : std::uint32_t { bits, normals };

std::array<std::uint32_t, 4> draw(std::uint64_t key, std::uint64_t index, Use use) {
  return philox4x32(
      {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), static_cast<std::uint32_t>(use), 0},
      {static_cast<std::uint32_t>(key), static_cast<std::uint32_t>(key >> 32)});
}

/// The middle of cell `word` of 2^32 cells of (0, 1); exact.
double inside_unit(std::uint32_t word) { return (word + 0.5) * 0x1p-32; }

/// Normals of the global indices 4 * group .. 4 * group + 3. The only place that computes them, so that
/// inlining cannot give two callers different roundings.
[[gnu::noinline]] std::array<double, 4> four_normals(std::uint64_t key, std::uint64_t group) {
  const auto words = draw(key, group, Use::normals);
  std::array<double, 4> normals;
  for (std::size_t i = 0; i < 4; i += 2) {
    const double radius = std::sqrt(-2.0 * std::log(inside_unit(words[i])));
    const double angle = 2.0 * std::numbers::pi * inside_unit(words[i + 1]);
    normals[i] = radius * std::cos(angle);
    normals[i + 1] = radius * std::sin(angle);
  }
  return normals;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t even = std::uint64_t{0xd2511f53u} * counter[0];
    const std::uint64_t odd = std::uint64_t{0xcd9e8d57u} * counter[2];
    counter = {static_cast<std::uint32_t>(odd >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(odd),
               static_cast<std::uint32_t>(even >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(even)};
    key = {key[0] + 0x9e3779b9u, key[1] + 0xbb67ae85u};
  }
  return counter;
}

std::uint64_t random_key(std::uint64_t seed, std::string_view name) { return hash64(name, seed); }

std::uint64_t random_bits(std::uint64_t key, std::uint64_t index) {
  const auto words = draw(key, index, Use::bits);
  return words[0] | std::uint64_t{words[1]} << 32;
}

double uniform(std::uint64_t key, std::uint64_t index) {
  return static_cast<double>(random_bits(key, index) >> 11) * 0x1p-53;
}

float normal(std::uint64_t key, std::uint64_t index) {
  return static_cast<float>(four_normals(key, index / 4)[index % 4]);
}

void fill_normal(std::uint64_t key, std::uint64_t first_index, std::span<float> out, double stddev) {
  for (std::size_t done = 0; done < out.size();) {
    const std::uint64_t index = first_index + done;
    const auto normals = four_normals(key, index / 4);
    const std::size_t count = std::min<std::size_t>(4 - index % 4, out.size() - done);
    for (std::size_t i = 0; i < count; ++i)
      out[done + i] = static_cast<float>(stddev * static_cast<float>(normals[index % 4 + i]));
    done += count;
  }
}

Permutation::Permutation(std::uint64_t key, std::int64_t size) : size_(size) {
  MOESAIC_EXPECT(1 <= size && size <= std::int64_t{1} << 62);
  half_bits_ = (static_cast<int>(std::bit_width(static_cast<std::uint64_t>(size - 1))) + 1) / 2;
  half_mask_ = (std::uint64_t{1} << half_bits_) - 1;
  for (std::size_t i = 0; i < round_keys_.size(); ++i) round_keys_[i] = random_bits(key, i);
}

std::int64_t Permutation::operator()(std::int64_t index) const {
  MOESAIC_EXPECT(0 <= index && index < size_);
  auto value = static_cast<std::uint64_t>(index);
  do value = encrypt(value);
  while (value >= static_cast<std::uint64_t>(size_));
  return static_cast<std::int64_t>(value);
}

std::uint64_t Permutation::encrypt(std::uint64_t value) const {
  std::uint64_t left = value >> half_bits_, right = value & half_mask_;
  for (std::uint64_t round_key : round_keys_) {
    const std::uint64_t mixed = left ^ (random_bits(round_key, right) & half_mask_);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

}  // namespace moesaic
