#include "moesaic/kernels/checked_operators.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moesaic/tensor/transfer.hpp"
#include "operator_list.hpp"

namespace moesaic {
namespace {

thread_local OperatorCheck* active = nullptr;

bool finite(double value) { return !(std::isnan(value) || value > std::numeric_limits<double>::max()); }

template <class T> bool all_finite(const OperatorContext& on, const Operators& ops, const ConstView& values) {
  std::vector<T> host(static_cast<std::size_t>(values.size()));
  const View copy = host_view(host.data(), values.extents());
  if (values.contiguous()) {
    download(on.stream, values, copy);
  } else {
    const Tensor packed = on.arena->tensor(values.dtype(), values.extents(), Label::workspace);
    ops.copy(on, values, packed);
    download(on.stream, packed, copy);
  }
  return std::all_of(host.begin(), host.end(), [](T value) { return finite(static_cast<double>(value)); });
}

bool all_finite(const OperatorContext& on, const Operators& ops, const ConstView& values) {
  if (values.empty()) return true;
  switch (values.dtype()) {
    case DType::f64: return all_finite<double>(on, ops, values);
    case DType::f32: return all_finite<float>(on, ops, values);
    case DType::bf16: {
      const Tensor wide = on.arena->tensor(DType::f32, values.extents(), Label::workspace);
      ops.copy(on, values, wide);
      return all_finite<float>(on, ops, wide);
    }
    default: return true;
  }
}

/// Whether an argument holds nothing but finite numbers, as an output or as an input; what is not such a view does.
template <class Argument>
bool finite_output(const OperatorContext& on, const Operators& ops, const Argument& argument) {
  if constexpr (std::is_same_v<Argument, View>) return all_finite(on, ops, argument);
  return true;
}
template <class Argument> bool finite_input(const OperatorContext& on, const Operators& ops, const Argument& argument) {
  if constexpr (std::is_same_v<Argument, ConstView>) return all_finite(on, ops, argument);
  return true;
}

}  // namespace

/// The checked version of the operator that `member` of the table points to.
template <class... Arguments> struct CheckedOperator<void(const OperatorContext&, Arguments...)> {
  template <std::size_t index> static void run(const OperatorContext& on, Arguments... arguments) {
    constexpr auto named = std::get<index>(operator_list);
    const Operators& ops = *active->base_;
    // Before: an output may lie where an input did.
    const bool finite_inputs = active->first_ || (finite_input(on, ops, arguments) && ...);
    (ops.*named.member)(on, arguments...);
    if (active->first_ || (finite_output(on, ops, arguments) && ...)) return;
    active->first_ = {named.name, active->place_, finite_inputs};
  }
};

namespace {

template <std::size_t index, class Function> Function* checked(NamedOperator<Function>) {
  return &CheckedOperator<Function>::template run<index>;
}

template <std::size_t... index> Operators checked_table(std::index_sequence<index...>) {
  Operators table;
  ((table.*std::get<index>(operator_list).member = checked<index>(std::get<index>(operator_list))), ...);
  return table;
}

}  // namespace

OperatorCheck::OperatorCheck(const Operators& base) : base_(&base) {
  MOESAIC_EXPECT(active == nullptr);
  active = this;
}

OperatorCheck::~OperatorCheck() { active = nullptr; }

const Operators& OperatorCheck::table() const {
  static const Operators table = checked_table(std::make_index_sequence<std::tuple_size_v<decltype(operator_list)>>());
  return table;
}

}  // namespace moesaic
