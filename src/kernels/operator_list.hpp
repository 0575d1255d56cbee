#pragma once
/// Every operator of the table with its name, for whatever treats all of them alike.

#include <string_view>
#include <tuple>

#include "moesaic/kernels/operators.hpp"

namespace moesaic {

template <class Function> struct NamedOperator {
  std::string_view name;
  Function* Operators::*member;
};

template <class Function> NamedOperator(std::string_view, Function* Operators::*) -> NamedOperator<Function>;

inline constexpr std::tuple operator_list{
    NamedOperator{"gemm", &Operators::gemm},
    NamedOperator{"grouped_gemm", &Operators::grouped_gemm},
    NamedOperator{"grouped_gemm_weight_gradient", &Operators::grouped_gemm_weight_gradient},
    NamedOperator{"rms_norm_forward", &Operators::rms_norm_forward},
    NamedOperator{"rms_norm_residual_forward", &Operators::rms_norm_residual_forward},
    NamedOperator{"rms_norm_backward", &Operators::rms_norm_backward},
    NamedOperator{"rotary", &Operators::rotary},
    NamedOperator{"head_norm_rotary_forward", &Operators::head_norm_rotary_forward},
    NamedOperator{"head_norm_rotary_backward", &Operators::head_norm_rotary_backward},
    NamedOperator{"attention_forward", &Operators::attention_forward},
    NamedOperator{"attention_backward", &Operators::attention_backward},
    NamedOperator{"attention_merge", &Operators::attention_merge},
    NamedOperator{"attention_sink", &Operators::attention_sink},
    NamedOperator{"attention_sink_backward", &Operators::attention_sink_backward},
    NamedOperator{"join_keys", &Operators::join_keys},
    NamedOperator{"join_keys_backward", &Operators::join_keys_backward},
    NamedOperator{"add_bias", &Operators::add_bias},
    NamedOperator{"bias_gradient", &Operators::bias_gradient},
    NamedOperator{"swiglu_forward", &Operators::swiglu_forward},
    NamedOperator{"swiglu_backward", &Operators::swiglu_backward},
    NamedOperator{"router_forward", &Operators::router_forward},
    NamedOperator{"router_backward", &Operators::router_backward},
    NamedOperator{"router_statistics", &Operators::router_statistics},
    NamedOperator{"balance_loss", &Operators::balance_loss},
    NamedOperator{"balanced_routing", &Operators::balanced_routing},
    NamedOperator{"sort_by_key", &Operators::sort_by_key},
    NamedOperator{"gather_rows", &Operators::gather_rows},
    NamedOperator{"combine_rows", &Operators::combine_rows},
    NamedOperator{"combine_rows_backward", &Operators::combine_rows_backward},
    NamedOperator{"expert_up", &Operators::expert_up},
    NamedOperator{"expert_down_backward", &Operators::expert_down_backward},
    NamedOperator{"expert_weight_gradient", &Operators::expert_weight_gradient},
    NamedOperator{"dispatch_destinations", &Operators::dispatch_destinations},
    NamedOperator{"dispatch_routing", &Operators::dispatch_routing},
    NamedOperator{"dispatch_weights_gradient", &Operators::dispatch_weights_gradient},
    NamedOperator{"embedding_forward", &Operators::embedding_forward},
    NamedOperator{"embedding_backward", &Operators::embedding_backward},
    NamedOperator{"cross_entropy_forward", &Operators::cross_entropy_forward},
    NamedOperator{"cross_entropy_backward", &Operators::cross_entropy_backward},
    NamedOperator{"adamw", &Operators::adamw},
    NamedOperator{"fill", &Operators::fill},
    NamedOperator{"fill_normal", &Operators::fill_normal},
    NamedOperator{"copy", &Operators::copy},
    NamedOperator{"accumulate", &Operators::accumulate},
    NamedOperator{"scale", &Operators::scale},
    NamedOperator{"sum_of_squares", &Operators::sum_of_squares},
    NamedOperator{"sum", &Operators::sum}};

static_assert(std::tuple_size_v<decltype(operator_list)> == sizeof(Operators) / sizeof(void (*)()),
              "an operator was added to the table and not to this list");

/// Calls visit(NamedOperator) for each, in order.
template <class Visit> void for_each_operator(Visit&& visit) {
  std::apply([&](const auto&... named) { (visit(named), ...); }, operator_list);
}

}  // namespace moesaic
