#include "moesaic/kernels/experts.hpp"

#include "moesaic/kernels/composed_experts.hpp"
#include "parallel.hpp"
#include "rows.hpp"
#include "scalar_dispatch.hpp"

#include <algorithm>

namespace moesaic::reference {
namespace {

template <class T> T dot(const T* a, const T* b, std::int64_t width) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

template <class T> void scale_row(T* row, T weight, std::int64_t width) {
#pragma omp simd
  for (std::int64_t c = 0; c < width; ++c) row[c] *= weight;
}

std::int64_t expert_of(ConstView offsets, std::int64_t slot) {
  const auto* begin = offsets.data<std::int64_t>();
  return std::upper_bound(begin, begin + offsets.size(), slot) - begin - 1;
}

template <class T>
void weigh_token(const SlotRouting& routing, std::int64_t token, const T* output_gradient, ConstView bias,
                 const Rows<T>& gradient, const Rows<T>& activated, T* weights_gradient) {
  const std::int32_t* slots = routing.token_slot.data<std::int32_t>() + token * routing.token_slot.stride(0);
  const T* weights = routing.weights.data<T>() + token * routing.weights.stride(0);
  for (std::int64_t j = 0; j < routing.token_slot.extent(1); ++j) {
    const std::int64_t slot = slots[j], width = gradient.width();
    weights_gradient[j] = slot < 0 ? T(0) : dot(gradient[slot], activated[slot], width);
    if (slot < 0) continue;
    if (!bias.absent())
      weights_gradient[j] +=
          dot(output_gradient, Rows<const T>(bias)[expert_of(routing.offsets, slot)], bias.extent(1));
    scale_row(gradient[slot], weights[j], width);
    scale_row(activated[slot], weights[j], width);
  }
}

void weigh_slots(const OperatorContext&, const SlotRouting& routing, ConstView output_gradient, ConstView bias,
                 View gradient, View activated, View weights_gradient) {
  with_scalar("expert_down_backward", gradient.dtype(), [&]<class T>(std::type_identity<T>) {
    const Rows<const T> d(output_gradient);
    const Rows<T> h(gradient), a(activated), result(weights_gradient);
    parallel_for(d.count(), routing.token_slot.extent(1) * h.width(),
                 [&](std::int64_t token) { weigh_token<T>(routing, token, d[token], bias, h, a, result[token]); });
  });
}

constexpr ExpertSteps steps{gather_rows,     grouped_gemm, grouped_gemm_weight_gradient, add_bias, swiglu_forward,
                            swiglu_backward, weigh_slots};

}  // namespace

void expert_up(const OperatorContext& context, const SwigluOptions& swiglu, ConstView in, ConstView slot_token,
               ConstView weights, ConstView bias, ConstView offsets, View gate_up, View activated) {
  const ExpertScratch scratch = expert_up_scratch(context, false, in, gate_up);
  composed_expert_up(steps, context, swiglu, in, slot_token, weights, bias, offsets, scratch.gathered, gate_up,
                     activated);
}

void expert_down_backward(const OperatorContext& context, const SwigluOptions& swiglu, const SlotRouting& routing,
                          ConstView output_gradient, ConstView down, ConstView bias, View gate_up, View activated,
                          View weights_gradient) {
  const ExpertScratch scratch = expert_down_backward_scratch(context, false, output_gradient, gate_up);
  composed_expert_down_backward(steps, context, swiglu, routing, output_gradient, down, bias, scratch, gate_up,
                                activated, weights_gradient);
}

void expert_weight_gradient(const OperatorContext& context, TokenSide side, ConstView output_gradient, ConstView in,
                            ConstView slot_token, ConstView offsets, double beta, View gradient) {
  composed_expert_weight_gradient(steps, context, side, output_gradient, in, slot_token, offsets, beta, gradient);
}

}  // namespace moesaic::reference
