#include "moesaic/kernels/silent_operators.hpp"

#include <utility>

#include "moesaic/kernels/attention_workspace.hpp"
#include "moesaic/kernels/expert_scratch.hpp"

namespace moesaic {
namespace {

/// Becomes a function of any arguments that does nothing.
struct Nothing {
  template <class... Arguments> using Function = void (*)(Arguments...);
  template <class... Arguments> operator Function<Arguments...>() const {
    return [](Arguments...) {};
  }
};

template <std::size_t... member> Operators nothing_for_all(std::index_sequence<member...>) {
  return {((void)member, Nothing())...};
}

void attention_backward_scratch(const OperatorContext& on, const AttentionSizes& sizes) {
  on.arena->allocate(attention_backward_workspace(sizes, on.deterministic), Label::workspace);
}

/// The scratch memory of experts.hpp's operators on a device.
template <DeviceKind device> void add_experts(Operators& table) {
  table.expert_up = [](const OperatorContext& on, const SwigluOptions&, ConstView in, ConstView, ConstView weights,
                       ConstView, ConstView, View gate_up,
                       View) { expert_up_scratch(on, experts_fuse(device, in, weights), in, gate_up); };
  table.expert_down_backward = [](const OperatorContext& on, const SwigluOptions&, const SlotRouting&,
                                  ConstView output_gradient, ConstView down, ConstView, View gate_up, View, View) {
    expert_down_backward_scratch(on, experts_fuse(device, output_gradient, down), output_gradient, gate_up);
  };
  table.expert_weight_gradient = [](const OperatorContext& on, TokenSide side, ConstView output_gradient, ConstView in,
                                    ConstView, ConstView, double, View gradient) {
    const bool fused = expert_gradient_fuses(device, side, output_gradient, in, gradient);
    const bool of_in = side == TokenSide::in;
    expert_weight_gradient_scratch(on, fused, of_in ? in : output_gradient, of_in ? output_gradient : in);
  };
}

Operators make_table(DeviceKind device) {
  constexpr std::size_t num_operators = sizeof(Operators) / sizeof(void (*)());
  Operators table = nothing_for_all(std::make_index_sequence<num_operators>());
  device == DeviceKind::cuda ? add_experts<DeviceKind::cuda>(table) : add_experts<DeviceKind::cpu>(table);
  if (device == DeviceKind::cuda)
    table.attention_backward = [](const OperatorContext& on, const AttentionMask& mask, double, ConstView q,
                                  ConstView k, ConstView v,
                                  auto...) { attention_backward_scratch(on, attention_sizes(mask, q, k, v)); };
  return table;
}

}  // namespace

const Operators& silent_operators(DeviceKind device) {
  static const Operators cpu = make_table(DeviceKind::cpu), cuda = make_table(DeviceKind::cuda);
  return device == DeviceKind::cuda ? cuda : cpu;
}

}  // namespace moesaic
