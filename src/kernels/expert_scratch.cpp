#include "moesaic/kernels/expert_scratch.hpp"

namespace moesaic {
namespace {

bool rows_aligned(const ConstView& matrix) {
  constexpr std::int64_t vector = 16;
  bool fits = reinterpret_cast<std::uintptr_t>(matrix.raw()) % vector == 0;
  for (int i = 0; i + 1 < matrix.rank(); ++i) fits = fits && matrix.stride(i) * size_of(matrix.dtype()) % vector == 0;
  return fits;
}

constexpr std::int64_t piece = 64;  // of a row in shared memory

}  // namespace

bool experts_fuse(DeviceKind device, ConstView tokens, ConstView weights) {
  return device == DeviceKind::cuda && tokens.dtype() == DType::bf16 && weights.dtype() == DType::bf16 &&
         weights.extent(0) <= most_fused_experts && weights.extent(1) % piece == 0 && weights.extent(2) % piece == 0 &&
         rows_aligned(tokens) && rows_aligned(weights);
}

bool expert_gradient_fuses(DeviceKind device, TokenSide side, ConstView output_gradient, ConstView in,
                           ConstView gradient) {
  return device == DeviceKind::cuda && side == TokenSide::output_gradient && output_gradient.dtype() == DType::bf16 &&
         in.dtype() == DType::bf16 && gradient.dtype() == DType::f32 && gradient.extent(0) <= most_fused_experts &&
         output_gradient.extent(1) % piece == 0 && in.extent(1) % piece == 0 && output_gradient.extent(0) > 0 &&
         in.extent(0) > 0 && rows_aligned(output_gradient) && rows_aligned(in) && rows_aligned(gradient);
}

ExpertScratch expert_up_scratch(const OperatorContext& context, bool fused, ConstView in, View gate_up) {
  ExpertScratch scratch;
  if (!fused) scratch.gathered = context.arena->tensor(in.dtype(), {gate_up.extent(0), in.extent(1)}, Label::workspace);
  return scratch;
}

ExpertScratch expert_down_backward_scratch(const OperatorContext& context, bool fused, ConstView output_gradient,
                                           View gate_up) {
  const std::int64_t slots = gate_up.extent(0), width = gate_up.extent(1) / 2;
  const auto scratch = [&](DType type, Extents extents) {
    return context.arena->tensor(type, extents, Label::workspace);
  };
  ExpertScratch result;
  if (fused) {
    const std::int64_t tiles = (width + expert_backward_columns - 1) / expert_backward_columns;
    result.slot_weights = scratch(DType::f32, {slots});
    result.products = scratch(DType::f32, {slots, tiles});
  } else {
    result.gathered = scratch(output_gradient.dtype(), {slots, output_gradient.extent(1)});
    result.gradient = scratch(output_gradient.dtype(), {slots, width});
  }
  return result;
}

ExpertScratch expert_weight_gradient_scratch(const OperatorContext& context, bool fused, ConstView tokens,
                                             ConstView slots) {
  ExpertScratch scratch;
  if (!fused)
    scratch.gathered = context.arena->tensor(tokens.dtype(), {slots.extent(0), tokens.extent(1)}, Label::workspace);
  return scratch;
}

}  // namespace moesaic
