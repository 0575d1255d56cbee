#include "moesaic/kernels/attention_workspace.hpp"

namespace moesaic {
namespace {

/// Each run costs: with 1 GiB where 4 GiB are needed the backward takes 12 % longer.
constexpr std::int64_t matrices_bound = std::int64_t{4} << 30;
constexpr std::int64_t bf16_bytes = 2, f32_bytes = 4;

/// Of all query heads of one sequence; both lengths are padded to tiles.
std::int64_t bytes_of_matrices(const AttentionSizes& sizes) {
  const auto padded = [](std::int64_t length) { return (length + 63) / 64 * 64; };
  return sizes.heads * padded(sizes.queries) * padded(sizes.keys) * bf16_bytes;
}

/// The largest divisor of `count` that leaves the share of `bytes` within the bound; at least 1.
std::int64_t count_within_bound(std::int64_t count, std::int64_t bytes) {
  for (std::int64_t part = count; part > 1; --part)
    if (count % part == 0 && bytes / count * part <= matrices_bound) return part;
  return 1;
}

/// Measured on an H100: cuDNN's any-order backward overtakes ours at 512 keys (width 64) and between 128 and 512 (128).
constexpr std::int64_t any_order_window = 256;

bool has_flash_widths(const AttentionSizes& sizes) {
  const bool narrow = sizes.width == 64 && sizes.value_width == 64;
  return narrow || ((sizes.width == 128 || sizes.width == 192) && sizes.value_width == 128);
}

/// Two values a query and head; the ranges of documents of tiles of 64.
std::int64_t flash_backward_workspace(const AttentionSizes& sizes) {
  const auto tiles = [](std::int64_t length) { return (length + 63) / 64; };
  const std::int64_t ranges = sizes.documents ? sizes.batch * (tiles(sizes.queries) + tiles(sizes.keys)) * 8 : 0;
  return sizes.batch * sizes.heads * sizes.queries * 2 * f32_bytes + ranges;
}

}  // namespace

bool prefer_flash_backward(const AttentionSizes& sizes, bool deterministic) {
  if (sizes.window == 0 || !has_flash_widths(sizes)) return false;
  // cuDNN's deterministic one overtakes ours at half of the keys (width 64), at a quarter (128).
  return 4 * sizes.window <= sizes.keys && (deterministic || sizes.window <= any_order_window);
}

AttentionPart deterministic_attention_part(const AttentionSizes& sizes) {
  const std::int64_t bytes = bytes_of_matrices(sizes);
  if (bytes <= matrices_bound) return {count_within_bound(sizes.batch, sizes.batch * bytes), sizes.key_heads};
  return {1, count_within_bound(sizes.key_heads, bytes)};
}

std::int64_t attention_backward_workspace(const AttentionSizes& sizes, bool deterministic) {
  if (sizes.batch == 0 || sizes.key_heads == 0) return 0;
  if (sizes.documents || prefer_flash_backward(sizes, deterministic)) return flash_backward_workspace(sizes);
  AttentionSizes run = sizes;
  if (deterministic) {
    const AttentionPart part = deterministic_attention_part(sizes);
    run.batch = part.sequences;
    run.heads = sizes.heads / sizes.key_heads * part.key_heads;
    run.key_heads = part.key_heads;
  }
  const std::int64_t query_rows = run.batch * run.queries * run.heads, key_rows = run.batch * run.keys * run.heads;
  const bool grouped = run.heads > run.key_heads;  // then keys' gradients are kept for each query head first
  const std::int64_t key_gradients = grouped ? key_rows * (run.width + run.value_width) * bf16_bytes : 0;
  const std::int64_t sums = query_rows * f32_bytes;
  const std::int64_t query_gradients = query_rows * run.width * f32_bytes;
  return sums + key_gradients + (deterministic ? run.batch * bytes_of_matrices(run) : query_gradients);
}

}  // namespace moesaic
