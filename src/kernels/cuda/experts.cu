#include "moesaic/kernels/experts.hpp"

#include "expert_variants.hpp"
#include "launch.cuh"
#include "moesaic/kernels/composed_experts.hpp"
#include "moesaic/tensor/cuda_memory.hpp"
#include "offsets.cuh"
#include "rows.cuh"

namespace moesaic::cuda {
namespace {

/// A SlotRouting on the device.
struct Slots {
  const std::int64_t* offsets;
  std::uint32_t experts, top_k, entries;
  Matrix<const std::int32_t> token_slot;
  Matrix<const float> weights;

  __device__ std::uint32_t token(std::uint32_t entry) const { return entry / top_k; }
  __device__ std::uint32_t column(std::uint32_t entry) const { return entry % top_k; }
  __device__ int slot(std::uint32_t entry) const { return token_slot[token(entry)][column(entry)]; }
  __device__ float weight(std::uint32_t entry) const { return weights[token(entry)][column(entry)]; }
  __device__ std::uint32_t expert(int slot) const { return group_of(offsets, experts, slot); }
};

Slots slots_of(const SlotRouting& routing) {
  return {routing.offsets.data<std::int64_t>(),
          static_cast<std::uint32_t>(routing.offsets.size() - 1),
          static_cast<std::uint32_t>(routing.token_slot.extent(1)),
          static_cast<std::uint32_t>(routing.token_slot.size()),
          matrix_of<const std::int32_t>(routing.token_slot),
          matrix_of<const float>(routing.weights)};
}

/// This lane's part of <a, b>.
template <int count, class T> __device__ float lane_product(const T* a, const T* b, int width) {
  float x[count], y[count], product = 0;
  for (int c = lane_number() * count; c < width; c += warp_lanes * count) {
    load(a + c, x);
    load(b + c, y);
#pragma unroll
    for (int i = 0; i < count; ++i) product += x[i] * y[i];
  }
  return product;
}

template <int count, class T> __device__ void scale_row(T* row, float weight, int width) {
  float values[count];
  for (int c = lane_number() * count; c < width; c += warp_lanes * count) {
    load(row + c, values);
#pragma unroll
    for (int i = 0; i < count; ++i) values[i] *= weight;
    store(values, row + c);
  }
}

/// One warp a token and column.
template <class T, int count>
__global__ void __launch_bounds__(block_threads)
    weigh_kernel(Slots slots, int width, int hidden, Rows<const T> output_gradient, Matrix<const T> bias,
                 Rows<T> gradient, Rows<T> activated, Matrix<float> weights_gradient) {
  const std::uint32_t entry = warp_number();
  if (entry >= slots.entries) return;
  const int slot = slots.slot(entry);
  float product = 0;
  if (slot >= 0) {
    T *const h = gradient[static_cast<std::uint32_t>(slot)], *const a = activated[static_cast<std::uint32_t>(slot)];
    product = lane_product<count, T>(h, a, width);
    if (bias.data != nullptr)
      product += lane_product<count>(output_gradient[slots.token(entry)], bias[slots.expert(slot)], hidden);
    scale_row<count>(h, slots.weight(entry), width);
    scale_row<count>(a, slots.weight(entry), width);
  }
  product = warp_sum(product);
  if (lane_number() == 0) weights_gradient[slots.token(entry)][slots.column(entry)] = product;
}

void weigh_slots(const OperatorContext& context, const SlotRouting& routing, ConstView output_gradient, ConstView bias,
                 View gradient, View activated, View weights_gradient) {
  if (routing.token_slot.size() == 0) return;
  const bool vectors = vectors_fit(output_gradient) && vectors_fit(gradient) && vectors_fit(activated) &&
                       (bias.absent() || vectors_fit(bias));
  with_vectors("expert_down_backward", gradient.dtype(), vectors, [&]<class T, int count>(T, Constant<count>) {
    weigh_kernel<T, count>
        <<<blocks_for(routing.token_slot.size(), block_warps), block_threads, 0, cuda_stream(context.stream)>>>(
            slots_of(routing), static_cast<int>(gradient.extent(1)), static_cast<int>(output_gradient.extent(1)),
            rows_of<const T>(output_gradient), matrix_of<const T>(bias), rows_of<T>(gradient), rows_of<T>(activated),
            matrix_of<float>(weights_gradient));
  });
  check_cuda(cudaGetLastError(), "the kernel that weighs slots");
}

constexpr ExpertSteps steps{gather_rows,     grouped_gemm, grouped_gemm_weight_gradient, add_bias, swiglu_forward,
                            swiglu_backward, weigh_slots};

/// slot_weights[s]: the weight of the entry whose slot is s.
__global__ void __launch_bounds__(block_threads) spread_weights_kernel(Slots slots, float* slot_weights) {
  const std::uint32_t entry = thread_number();
  if (entry >= slots.entries) return;
  const int slot = slots.slot(entry);
  if (slot >= 0) slot_weights[slot] = slots.weight(entry);
}

/// Each entry's sum of its slot's parts, in order.
__global__ void __launch_bounds__(block_threads)
    sum_products_kernel(Slots slots, int parts, Matrix<const float> products, Matrix<float> weights_gradient) {
  const std::uint32_t entry = thread_number();
  if (entry >= slots.entries) return;
  const int slot = slots.slot(entry);
  float sum = 0;
  for (int i = 0; slot >= 0 && i < parts; ++i) sum += products[slot][i];
  weights_gradient[slots.token(entry)][slots.column(entry)] = sum;
}

/// Adds <output_gradient[t], bias[e]>; one warp an entry.
__global__ void __launch_bounds__(block_threads)
    add_bias_products_kernel(Slots slots, int hidden, Rows<const bf16> output_gradient, Matrix<const bf16> bias,
                             Matrix<float> weights_gradient) {
  const std::uint32_t entry = warp_number();
  if (entry >= slots.entries) return;
  const int slot = slots.slot(entry);
  if (slot < 0) return;
  const float product =
      warp_sum(lane_product<8>(output_gradient[slots.token(entry)], bias[slots.expert(slot)], hidden));
  if (lane_number() == 0) weights_gradient[slots.token(entry)][slots.column(entry)] += product;
}

void spread_weights(const OperatorContext& context, const Slots& slots, View slot_weights) {
  spread_weights_kernel<<<blocks_for(slots.entries), block_threads, 0, cuda_stream(context.stream)>>>(
      slots, slot_weights.data<float>());
  check_cuda(cudaGetLastError(), "the kernel that spreads weights over slots");
}

void sum_products(const OperatorContext& context, const Slots& slots, ConstView products, ConstView output_gradient,
                  ConstView bias, View weights_gradient) {
  const cudaStream_t stream = cuda_stream(context.stream);
  sum_products_kernel<<<blocks_for(slots.entries), block_threads, 0, stream>>>(
      slots, static_cast<int>(products.extent(1)), matrix_of<const float>(products),
      matrix_of<float>(weights_gradient));
  check_cuda(cudaGetLastError(), "the kernel that sums products of slots");
  if (bias.absent()) return;
  add_bias_products_kernel<<<blocks_for(slots.entries, block_warps), block_threads, 0, stream>>>(
      slots, static_cast<int>(bias.extent(1)), rows_of<const bf16>(output_gradient), matrix_of<const bf16>(bias),
      matrix_of<float>(weights_gradient));
  check_cuda(cudaGetLastError(), "the kernel that adds products with biases");
}

void fused_expert_down_backward(const OperatorContext& context, const SwigluOptions& swiglu, const SlotRouting& routing,
                                ConstView output_gradient, ConstView down, ConstView bias, View gate_up, View activated,
                                View weights_gradient) {
  const ExpertScratch scratch = expert_down_backward_scratch(context, true, output_gradient, gate_up);
  const Slots slots = slots_of(routing);
  spread_weights(context, slots, scratch.slot_weights);
  hopper_expert_down_backward(context, swiglu, routing, output_gradient, down, scratch, gate_up, activated);
  sum_products(context, slots, scratch.products, output_gradient, bias, weights_gradient);
}

}  // namespace

void plain_expert_up(const OperatorContext& context, const SwigluOptions& swiglu, ConstView in, ConstView slot_token,
                     ConstView weights, ConstView bias, ConstView offsets, View gate_up, View activated) {
  const ExpertScratch scratch = expert_up_scratch(context, false, in, gate_up);
  composed_expert_up(steps, context, swiglu, in, slot_token, weights, bias, offsets, scratch.gathered, gate_up,
                     activated);
}

void plain_expert_down_backward(const OperatorContext& context, const SwigluOptions& swiglu, const SlotRouting& routing,
                                ConstView output_gradient, ConstView down, ConstView bias, View gate_up, View activated,
                                View weights_gradient) {
  const ExpertScratch scratch = expert_down_backward_scratch(context, false, output_gradient, gate_up);
  composed_expert_down_backward(steps, context, swiglu, routing, output_gradient, down, bias, scratch, gate_up,
                                activated, weights_gradient);
}

void plain_expert_weight_gradient(const OperatorContext& context, TokenSide side, ConstView output_gradient,
                                  ConstView in, ConstView slot_token, ConstView offsets, double beta, View gradient) {
  composed_expert_weight_gradient(steps, context, side, output_gradient, in, slot_token, offsets, beta, gradient);
}

void expert_up(const OperatorContext& context, const SwigluOptions& swiglu, ConstView in, ConstView slot_token,
               ConstView weights, ConstView bias, ConstView offsets, View gate_up, View activated) {
  MOESAIC_EXPECT(offsets.size() == weights.extent(0) + 1 && weights.extent(2) == in.extent(1));
  MOESAIC_EXPECT(gate_up.extent(1) == weights.extent(1));
  if (gate_up.size() == 0) return;
  const auto variant = experts_fuse(DeviceKind::cuda, in, weights) ? hopper_expert_up : plain_expert_up;
  variant(context, swiglu, in, slot_token, weights, bias, offsets, gate_up, activated);
}

void expert_down_backward(const OperatorContext& context, const SwigluOptions& swiglu, const SlotRouting& routing,
                          ConstView output_gradient, ConstView down, ConstView bias, View gate_up, View activated,
                          View weights_gradient) {
  MOESAIC_EXPECT(routing.offsets.size() == down.extent(0) + 1 && down.extent(1) == output_gradient.extent(1));
  MOESAIC_EXPECT(gate_up.extent(1) == 2 * down.extent(2));
  if (routing.token_slot.size() == 0) return;
  const auto variant =
      experts_fuse(DeviceKind::cuda, output_gradient, down) ? fused_expert_down_backward : plain_expert_down_backward;
  variant(context, swiglu, routing, output_gradient, down, bias, gate_up, activated, weights_gradient);
}

void expert_weight_gradient(const OperatorContext& context, TokenSide side, ConstView output_gradient, ConstView in,
                            ConstView slot_token, ConstView offsets, double beta, View gradient) {
  MOESAIC_EXPECT(offsets.size() == gradient.extent(0) + 1);
  MOESAIC_EXPECT(gradient.extent(1) == output_gradient.extent(1) && gradient.extent(2) == in.extent(1));
  MOESAIC_EXPECT(beta == 0 || beta == 1);
  if (gradient.size() == 0) return;
  const auto variant = expert_gradient_fuses(DeviceKind::cuda, side, output_gradient, in, gradient)
                           ? hopper_expert_weight_gradient
                           : plain_expert_weight_gradient;
  variant(context, side, output_gradient, in, slot_token, offsets, beta, gradient);
}

}  // namespace moesaic::cuda
