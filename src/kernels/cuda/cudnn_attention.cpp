#include "attention_variants.hpp"
#include "cudnn_plan.hpp"
#include "moesaic/kernels/attention_workspace.hpp"

#include <algorithm>

namespace moesaic::cuda {
namespace {

/// The mask as a band of cuDNN's; none where it is no such band.
std::optional<Band> band_of(const AttentionMask& mask, std::int64_t queries, std::int64_t keys) {
  if (!mask.query_documents.absent()) return std::nullopt;
  if (!mask.causal) return mask.window == 0 ? std::optional<Band>({.causal = false}) : std::nullopt;
  const std::int64_t offset = mask.offset.value_or(keys - queries);
  if (offset >= keys - 1 && mask.window == 0) return Band{.causal = false};
  // cuDNN is twice as fast counting from the beginning, so where both hold that is the one.
  if (offset == 0) return Band{.from_the_end = false, .window = mask.window};
  if (offset == keys - queries && offset > 0) return Band{.window = mask.window};
  return std::nullopt;
}

/// cuDNN reads and writes 16 bytes at a time.
bool aligned_rows(const ConstView& view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.raw());
  const bool strides = view.stride(0) % 8 == 0 && view.stride(1) % 8 == 0 && view.stride(2) % 8 == 0;
  return address % 16 == 0 && strides && view.extent(3) % 8 == 0;
}

bool can_be_cudnns(std::initializer_list<ConstView> tensors) {
  return std::all_of(tensors.begin(), tensors.end(), [](const ConstView& view) {
    return view.dtype() == DType::bf16 && view.size() > 0 && aligned_rows(view);
  });
}

/// Sequences and key heads (with their queries) of one run of the backward.
AttentionPart part_of(const AttentionSizes& sizes, bool deterministic) {
  return deterministic ? deterministic_attention_part(sizes) : AttentionPart{sizes.batch, sizes.key_heads};
}

/// The operands of the backward cut to sequences from `sequence` and key heads from `key_head` on.
AttentionProblem cut(const AttentionProblem& whole, const AttentionPart& part, std::int64_t sequence,
                     std::int64_t key_head) {
  AttentionProblem problem = whole;
  const std::int64_t all_key_heads = whole.operands[1].extent(2);
  for (ConstView& view : problem.operands) {
    const int heads_dimension = view.rank() == 3 ? 1 : 2;  // log_sum_exp is [batch, heads, queries]
    const std::int64_t group = view.extent(heads_dimension) / all_key_heads;
    view = view.rows(sequence, sequence + part.sequences)
               .slice(heads_dimension, key_head * group, (key_head + part.key_heads) * group);
  }
  return problem;
}

}  // namespace

bool cudnn_attention_forward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                             ConstView k, ConstView v, View out, View log_sum_exp) {
  const auto band = band_of(mask, q.extent(1), k.extent(1));
  if (!band || !can_be_cudnns({q, k, v, out})) return false;
  const AttentionProblem problem{*band, scale, context.deterministic, {q, k, v, out, log_sum_exp}};
  CudnnPlan* plan = find_cudnn_plan(context, problem);
  if (plan == nullptr) return false;
  plan->run(context, problem);
  return true;
}

bool cudnn_attention_backward(const OperatorContext& context, const AttentionMask& mask, double scale, ConstView q,
                              ConstView k, ConstView v, ConstView out, ConstView log_sum_exp, ConstView out_gradient,
                              View q_gradient, View k_gradient, View v_gradient) {
  const auto band = band_of(mask, q.extent(1), k.extent(1));
  if (!band || !can_be_cudnns({q, k, v, out, out_gradient, q_gradient, k_gradient, v_gradient})) return false;
  const AttentionProblem whole{*band,
                               scale,
                               context.deterministic,
                               {q, k, v, out, log_sum_exp, out_gradient, q_gradient, k_gradient, v_gradient}};
  const AttentionPart part = part_of(attention_sizes(mask, q, k, v), context.deterministic);
  CudnnPlan* plan = find_cudnn_plan(context, cut(whole, part, 0, 0));
  if (plan == nullptr) return false;
  for (std::int64_t sequence = 0; sequence < q.extent(0); sequence += part.sequences)
    for (std::int64_t key_head = 0; key_head < k.extent(2); key_head += part.key_heads)
      plan->run(context, cut(whole, part, sequence, key_head));
  return true;
}

}  // namespace moesaic::cuda
