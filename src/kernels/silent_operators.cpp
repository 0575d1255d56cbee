#include "moesaic/kernels/silent_operators.hpp"

#include <utility>

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

std::int64_t padded(std::int64_t length) { return (length + 63) / 64 * 64; }

/// Of `count` equal parts of `bytes` those that are taken at once: the largest divisor within the bound, at least 1.
std::int64_t within_bound(std::int64_t count, std::int64_t bytes) {
  std::int64_t part = count;
  while (part > 1 && (count % part != 0 || part * bytes > attention_workspace_bound)) --part;
  return part * bytes;
}

void attention_backward_scratch(const OperatorContext& on, const ConstView& q, const ConstView& k) {
  on.arena->allocate(attention_workspace_bytes(q.extents(), k.extents()), Label::workspace);
}

Operators make_table(DeviceKind device) {
  constexpr std::size_t num_operators = sizeof(Operators) / sizeof(void (*)());
  Operators table = nothing_for_all(std::make_index_sequence<num_operators>());
  if (device == DeviceKind::cuda)
    table.attention_backward = [](const OperatorContext& on, const AttentionMask&, double, ConstView q, ConstView k,
                                  auto...) { attention_backward_scratch(on, q, k); };
  return table;
}

}  // namespace

std::int64_t attention_workspace_bytes(const Extents& queries, const Extents& keys) {
  const std::int64_t sequence = 2 * queries[2] * padded(queries[1]) * padded(keys[1]);
  if (queries[0] == 0 || sequence <= attention_workspace_bound) return within_bound(queries[0], sequence);
  return within_bound(keys[2], sequence / keys[2]);
}

const Operators& silent_operators(DeviceKind device) {
  static const Operators cpu = make_table(DeviceKind::cpu), cuda = make_table(DeviceKind::cuda);
  return device == DeviceKind::cuda ? cuda : cpu;
}

}  // namespace moesaic
