#include "moesaic/kernels/operators.hpp"

#include "operator_list.hpp"

namespace moesaic {
namespace {

const Operators reference_operators{
    .gemm = reference::gemm,
    .grouped_gemm = reference::grouped_gemm,
    .grouped_gemm_weight_gradient = reference::grouped_gemm_weight_gradient,
    .rms_norm_forward = reference::rms_norm_forward,
    .rms_norm_residual_forward = reference::rms_norm_residual_forward,
    .rms_norm_backward = reference::rms_norm_backward,
    .rotary = reference::rotary,
    .head_norm_rotary_forward = reference::head_norm_rotary_forward,
    .head_norm_rotary_backward = reference::head_norm_rotary_backward,
    .attention_forward = reference::attention_forward,
    .attention_backward = reference::attention_backward,
    .attention_merge = reference::attention_merge,
    .attention_sink = reference::attention_sink,
    .attention_sink_backward = reference::attention_sink_backward,
    .join_keys = reference::join_keys,
    .join_keys_backward = reference::join_keys_backward,
    .add_bias = reference::add_bias,
    .bias_gradient = reference::bias_gradient,
    .swiglu_forward = reference::swiglu_forward,
    .swiglu_backward = reference::swiglu_backward,
    .router_forward = reference::router_forward,
    .router_backward = reference::router_backward,
    .router_statistics = reference::router_statistics,
    .balance_loss = reference::balance_loss,
    .balanced_routing = reference::balanced_routing,
    .sort_by_key = reference::sort_by_key,
    .gather_rows = reference::gather_rows,
    .combine_rows = reference::combine_rows,
    .combine_rows_backward = reference::combine_rows_backward,
    .expert_up = reference::expert_up,
    .expert_down_backward = reference::expert_down_backward,
    .expert_weight_gradient = reference::expert_weight_gradient,
    .dispatch_destinations = reference::dispatch_destinations,
    .dispatch_routing = reference::dispatch_routing,
    .dispatch_weights_gradient = reference::dispatch_weights_gradient,
    .embedding_forward = reference::embedding_forward,
    .embedding_backward = reference::embedding_backward,
    .cross_entropy_forward = reference::cross_entropy_forward,
    .cross_entropy_backward = reference::cross_entropy_backward,
    .adamw = reference::adamw,
    .fill = reference::fill,
    .fill_normal = reference::fill_normal,
    .copy = reference::copy,
    .accumulate = reference::accumulate,
    .scale = reference::scale,
    .sum_of_squares = reference::sum_of_squares,
    .sum = reference::sum,
};

const Operators cuda_operators{
#ifdef MOESAIC_CUDA
    .gemm = cuda::gemm,
    .grouped_gemm = cuda::grouped_gemm,
    .grouped_gemm_weight_gradient = cuda::grouped_gemm_weight_gradient,
    .rms_norm_forward = cuda::rms_norm_forward,
    .rms_norm_residual_forward = cuda::rms_norm_residual_forward,
    .rms_norm_backward = cuda::rms_norm_backward,
    .rotary = cuda::rotary,
    .head_norm_rotary_forward = cuda::head_norm_rotary_forward,
    .head_norm_rotary_backward = cuda::head_norm_rotary_backward,
    .attention_forward = cuda::attention_forward,
    .attention_backward = cuda::attention_backward,
    .attention_merge = cuda::attention_merge,
    .attention_sink = cuda::attention_sink,
    .attention_sink_backward = cuda::attention_sink_backward,
    .join_keys = cuda::join_keys,
    .join_keys_backward = cuda::join_keys_backward,
    .add_bias = cuda::add_bias,
    .bias_gradient = cuda::bias_gradient,
    .swiglu_forward = cuda::swiglu_forward,
    .swiglu_backward = cuda::swiglu_backward,
    .router_forward = cuda::router_forward,
    .router_backward = cuda::router_backward,
    .router_statistics = cuda::router_statistics,
    .balance_loss = cuda::balance_loss,
    .balanced_routing = cuda::balanced_routing,
    .sort_by_key = cuda::sort_by_key,
    .gather_rows = cuda::gather_rows,
    .combine_rows = cuda::combine_rows,
    .combine_rows_backward = cuda::combine_rows_backward,
    .expert_up = cuda::expert_up,
    .expert_down_backward = cuda::expert_down_backward,
    .expert_weight_gradient = cuda::expert_weight_gradient,
    .dispatch_destinations = cuda::dispatch_destinations,
    .dispatch_routing = cuda::dispatch_routing,
    .dispatch_weights_gradient = cuda::dispatch_weights_gradient,
    .embedding_forward = cuda::embedding_forward,
    .embedding_backward = cuda::embedding_backward,
    .cross_entropy_forward = cuda::cross_entropy_forward,
    .cross_entropy_backward = cuda::cross_entropy_backward,
    .adamw = cuda::adamw,
    .fill = cuda::fill,
    .fill_normal = cuda::fill_normal,
    .copy = cuda::copy,
    .accumulate = cuda::accumulate,
    .scale = cuda::scale,
    .sum_of_squares = cuda::sum_of_squares,
    .sum = cuda::sum,
#endif
};

}  // namespace

const Operators& operators(DeviceKind device) {
  return device == DeviceKind::cuda ? cuda_operators : reference_operators;
}

std::string missing_operators(DeviceKind device) {
  std::string names;
  for_each_operator([&](const auto& named) {
    if (operators(device).*named.member != nullptr) return;
    if (!names.empty()) names += ", ";
    names += named.name;
  });
  return names;
}

}  // namespace moesaic
