#pragma once
/// What a model costs to train, by arithmetic alone.

#include <cstdint>
#include <vector>

#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// Floating-point operations of forward and backward for one token of a sequence of `sequence` tokens: matrix products
/// and attention, of which the causal half counts; no recompute, no router, no look-ups. With H hidden, A and G query and
/// key heads of width d, K experts of width F a token, V the vocabulary, S the sequence:
///   sum over blocks of 6 H d (2A + 2G) + 6 S A d + 18 H (K F, or the dense width), plus 6 H V.
double flops_per_token(const ModelSpec& spec, std::int64_t sequence);

/// The same by block: embedding (a look-up: 0), transformer blocks, head. Their sum is flops_per_token.
std::vector<double> flops_per_token_by_block(const ModelSpec& spec, std::int64_t sequence);

}  // namespace moesaic
