#include "moesaic/kernels/silent_operators.hpp"

#include <utility>

#include "moesaic/kernels/attention_workspace.hpp"

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

void attention_backward_scratch(const OperatorContext& on, const ConstView& q, const ConstView& k, const ConstView& v) {
  const AttentionSizes sizes{q.extent(0), q.extent(1), k.extent(1), q.extent(2), k.extent(2), q.extent(3), v.extent(3)};
  on.arena->allocate(attention_backward_workspace(sizes, on.deterministic), Label::workspace);
}

Operators make_table(DeviceKind device) {
  constexpr std::size_t num_operators = sizeof(Operators) / sizeof(void (*)());
  Operators table = nothing_for_all(std::make_index_sequence<num_operators>());
  if (device == DeviceKind::cuda)
    table.attention_backward = [](const OperatorContext& on, const AttentionMask&, double, ConstView q, ConstView k,
                                  ConstView v, auto...) { attention_backward_scratch(on, q, k, v); };
  return table;
}

}  // namespace

const Operators& silent_operators(DeviceKind device) {
  static const Operators cpu = make_table(DeviceKind::cpu), cuda = make_table(DeviceKind::cuda);
  return device == DeviceKind::cuda ? cuda : cpu;
}

}  // namespace moesaic
