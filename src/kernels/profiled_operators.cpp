#include "moesaic/kernels/profiled_operators.hpp"

#include <utility>

#include "operator_amount.hpp"
#include "operator_list.hpp"

namespace moesaic {
namespace {

template <class Function> struct ProfiledOperator;

/// The version that leaves a trace of the operator that `member` of the table points to.
template <class... Arguments> struct ProfiledOperator<void(const OperatorContext&, Arguments...)> {
  template <std::size_t index> static void run(const OperatorContext& on, Arguments... arguments) {
    constexpr auto named = std::get<index>(operator_list);
    const TimedSpan span(SpanKind::operation, on.stream,
                         [&] { return OperatorAmount<named.member>::of(named.name, arguments...); });
    (operators(on.stream.device).*named.member)(on, arguments...);
  }
};

template <std::size_t index, class Function> Function* profiled(NamedOperator<Function>) {
  return &ProfiledOperator<Function>::template run<index>;
}

template <std::size_t... index> Operators profiled_table(std::index_sequence<index...>) {
  Operators table;
  ((table.*std::get<index>(operator_list).member = profiled<index>(std::get<index>(operator_list))), ...);
  return table;
}

}  // namespace

const Operators& profiled_operators() {
  static const Operators table = profiled_table(std::make_index_sequence<std::tuple_size_v<decltype(operator_list)>>());
  return table;
}

}  // namespace moesaic
