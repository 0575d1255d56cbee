#pragma once
/// What a model costs to train, by arithmetic alone.

#include <cstdint>
#include <vector>

#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// Floating-point operations of forward and backward for one token of a sequence of `sequence` tokens: matrix products
/// and attention, of which the causal half counts; no recompute, no router, no look-ups. Six an element of every weight
/// that the token meets, and of every query, key and value that meet in attention: with H hidden, A and G query and key
/// heads of width d, K experts of width F a token and shared ones of width F_s, V the vocabulary, a sum over blocks of
///     6 H d (2A + 2G) + 6 M 2 A d + 18 H (K F + F_s, or the dense width), plus 6 H V.
/// M, the keys that a query sees on average, is S / 2 of S tokens. Where some blocks have a window, it is in all of them
/// (w (w + 1) / 2 + (S - w) w) / S with w the window or S. Both as published rates count.
/// Latent attention of ranks r_q, r, plain, rotary and value widths n, p, v:
///     6 (H r_q + r_q A (n + p) + H (r + p) + r A (n + v) + A v H) + 6 M A (n + p + v).
/// Multi-token prediction: a block more, 12 H^2 of its projection, and the head a second time.
double flops_per_token(const ModelSpec& spec, std::int64_t sequence);

/// The same by block: embedding (a look-up: 0), transformer blocks, head. Their sum is flops_per_token.
std::vector<double> flops_per_token_by_block(const ModelSpec& spec, std::int64_t sequence);

}  // namespace moesaic
