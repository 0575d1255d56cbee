#include "moesaic/kernels/operators.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace moesaic {
namespace {

const Operators reference_operators{
    .gemm = reference::gemm,
    .grouped_gemm = reference::grouped_gemm,
    .grouped_gemm_weight_gradient = reference::grouped_gemm_weight_gradient,
    .rms_norm_forward = reference::rms_norm_forward,
    .rms_norm_backward = reference::rms_norm_backward,
    .rotary = reference::rotary,
    .attention_forward = reference::attention_forward,
    .attention_backward = reference::attention_backward,
    .attention_merge = reference::attention_merge,
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
    .dispatch_destinations = reference::dispatch_destinations,
    .dispatch_routing = reference::dispatch_routing,
    .dispatch_weights_gradient = reference::dispatch_weights_gradient,
    .embedding_forward = reference::embedding_forward,
    .embedding_backward = reference::embedding_backward,
    .cross_entropy_forward = reference::cross_entropy_forward,
    .cross_entropy_backward = reference::cross_entropy_backward,
    .adamw = reference::adamw,
    .fill = reference::fill,
    .copy = reference::copy,
    .accumulate = reference::accumulate,
    .scale = reference::scale,
    .sum_of_squares = reference::sum_of_squares,
    .sum = reference::sum,
};

const Operators cuda_operators{
#ifdef MOESAIC_CUDA
    .gemm = cuda::gemm,
    .rms_norm_forward = cuda::rms_norm_forward,
    .rms_norm_backward = cuda::rms_norm_backward,
    .adamw = cuda::adamw,
#endif
};

using NamedOperator = std::pair<std::string_view, bool>;

/// Every operator's name and whether the table has it.
auto availability(const Operators& table) {
  return std::array{
      NamedOperator{"gemm", table.gemm},
      NamedOperator{"grouped_gemm", table.grouped_gemm},
      NamedOperator{"grouped_gemm_weight_gradient", table.grouped_gemm_weight_gradient},
      NamedOperator{"rms_norm_forward", table.rms_norm_forward},
      NamedOperator{"rms_norm_backward", table.rms_norm_backward},
      NamedOperator{"rotary", table.rotary},
      NamedOperator{"attention_forward", table.attention_forward},
      NamedOperator{"attention_backward", table.attention_backward},
      NamedOperator{"attention_merge", table.attention_merge},
      NamedOperator{"swiglu_forward", table.swiglu_forward},
      NamedOperator{"swiglu_backward", table.swiglu_backward},
      NamedOperator{"router_forward", table.router_forward},
      NamedOperator{"router_backward", table.router_backward},
      NamedOperator{"router_statistics", table.router_statistics},
      NamedOperator{"balance_loss", table.balance_loss},
      NamedOperator{"balanced_routing", table.balanced_routing},
      NamedOperator{"sort_by_key", table.sort_by_key},
      NamedOperator{"gather_rows", table.gather_rows},
      NamedOperator{"combine_rows", table.combine_rows},
      NamedOperator{"combine_rows_backward", table.combine_rows_backward},
      NamedOperator{"dispatch_destinations", table.dispatch_destinations},
      NamedOperator{"dispatch_routing", table.dispatch_routing},
      NamedOperator{"dispatch_weights_gradient", table.dispatch_weights_gradient},
      NamedOperator{"embedding_forward", table.embedding_forward},
      NamedOperator{"embedding_backward", table.embedding_backward},
      NamedOperator{"cross_entropy_forward", table.cross_entropy_forward},
      NamedOperator{"cross_entropy_backward", table.cross_entropy_backward},
      NamedOperator{"adamw", table.adamw},
      NamedOperator{"fill", table.fill},
      NamedOperator{"copy", table.copy},
      NamedOperator{"accumulate", table.accumulate},
      NamedOperator{"scale", table.scale},
      NamedOperator{"sum_of_squares", table.sum_of_squares},
      NamedOperator{"sum", table.sum},
  };
}

constexpr std::size_t num_operators = sizeof(Operators) / sizeof(void (*)());
static_assert(std::tuple_size_v<decltype(availability(Operators{}))> == num_operators,
              "an operator was added to the table and not to its list of names");

}  // namespace

const Operators& operators(DeviceKind device) {
  return device == DeviceKind::cuda ? cuda_operators : reference_operators;
}

std::string missing_operators(DeviceKind device) {
  std::string names;
  for (const auto& [name, available] : availability(operators(device))) {
    if (available) continue;
    if (!names.empty()) names += ", ";
    names += name;
  }
  return names;
}

}  // namespace moesaic
