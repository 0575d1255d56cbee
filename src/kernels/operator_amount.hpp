#pragma once
/// What a call of an operator has to do at least, from its arguments.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "moesaic/kernels/operators.hpp"
#include "moesaic/tensor/timeline.hpp"

namespace moesaic {

/// (query, key) pairs of all heads that the mask lets see each other, documents left out of account.
inline double visible_pairs(const AttentionMask& mask, const ConstView& q, const ConstView& k) {
  const std::int64_t queries = q.extent(1), keys = k.extent(1), offset = mask.offset.value_or(keys - queries);
  std::int64_t pairs = 0;
  for (std::int64_t query = offset; query < offset + queries; ++query) {
    const std::int64_t end = mask.causal ? std::min(keys, query + 1) : keys;
    const std::int64_t first = mask.window > 0 ? std::max<std::int64_t>(0, query + 1 - mask.window) : 0;
    pairs += std::max<std::int64_t>(0, end - first);
  }
  return static_cast<double>(pairs) * static_cast<double>(q.extent(0) * q.extent(2));
}

namespace amount {

inline double bytes(const ConstView& view) { return view.absent() ? 0 : static_cast<double>(view.bytes()); }
inline double bytes(const AttentionMask& mask) { return bytes(mask.query_documents) + bytes(mask.key_documents); }
inline double bytes(const SlotRouting& routing) {
  return bytes(routing.offsets) + bytes(routing.slot_token) + bytes(routing.token_slot) + bytes(routing.weights);
}
template <class Argument> double bytes(const Argument&) { return 0; }
inline double bytes(const View& view) { return bytes(ConstView(view)); }

/// Outputs alone.
template <class Argument> double output_bytes(const Argument& argument) {
  if constexpr (std::is_same_v<Argument, View>) return bytes(argument);
  return 0;
}

/// Operators that read every output of theirs.
inline constexpr std::array<std::string_view, 12> in_place{"rotary",
                                                           "head_norm_rotary_backward",
                                                           "attention_sink",
                                                           "attention_sink_backward",
                                                           "attention_merge",
                                                           "add_bias",
                                                           "bias_gradient",
                                                           "adamw",
                                                           "accumulate",
                                                           "scale",
                                                           "cross_entropy_backward",
                                                           "embedding_backward"};

constexpr bool updates(std::string_view name) {
  return std::find(in_place.begin(), in_place.end(), name) != in_place.end();
}

/// A product of [m, k] and [k, n].
inline SpanText product(std::string_view name, std::int64_t m, std::int64_t n, std::int64_t k, double all_bytes) {
  const double flops = 2 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  return {std::string(name), fmt::format("{}x{}x{}", m, n, k), {flops, all_bytes}};
}

template <class... Views> double sum_of_bytes(const Views&... views) { return (bytes(views) + ... + 0.0); }

/// Bytes and shape of any operator.
template <class... Arguments> SpanText plain(std::string_view name, const Arguments&... arguments) {
  SpanText text{.name = std::string(name)};
  text.amount.bytes = sum_of_bytes(arguments...);
  if (updates(name)) text.amount.bytes += (output_bytes(arguments) + ... + 0.0);
  ConstView largest;
  const auto look = [&](const auto& argument) {
    if constexpr (std::is_convertible_v<decltype(argument), ConstView>)
      if (largest.absent() || (!argument.absent() && argument.size() > largest.size())) largest = argument;
  };
  (look(arguments), ...);
  for (int i = 0; i < largest.rank() && largest.rank() > 1; ++i)
    text.detail += fmt::format("{}{}", i == 0 ? "" : "x", largest.extent(i));
  return text;
}

}  // namespace amount

/// What the operator that `member` of the table points to has to do.
template <auto member> struct OperatorAmount {
  template <class... Arguments> static SpanText of(std::string_view name, const Arguments&... arguments) {
    return amount::plain(name, arguments...);
  }
};

template <> struct OperatorAmount<&Operators::gemm> {
  static SpanText of(std::string_view name, Transpose transpose_a, Transpose, double, const ConstView& a,
                     const ConstView& b, double beta, const View& c) {
    const std::int64_t k = a.extent(transpose_a == Transpose::yes ? 0 : 1);
    const double read = beta == 0 ? 0 : amount::bytes(c);
    return amount::product(name, c.extent(0), c.extent(1), k, amount::sum_of_bytes(a, b, c) + read);
  }
};

template <> struct OperatorAmount<&Operators::grouped_gemm> {
  static SpanText of(std::string_view name, Transpose, const ConstView& in, const ConstView& weights,
                     const ConstView& offsets, const View& out) {
    return amount::product(name, in.extent(0), out.extent(1), in.extent(1),
                           amount::sum_of_bytes(in, weights, offsets, out));
  }
};

template <> struct OperatorAmount<&Operators::grouped_gemm_weight_gradient> {
  static SpanText of(std::string_view name, const ConstView& output_gradient, const ConstView& in,
                     const ConstView& offsets, double beta, const View& gradient) {
    const double read = beta == 0 ? 0 : amount::bytes(gradient);
    return amount::product(name, output_gradient.extent(1), in.extent(1), in.extent(0),
                           amount::sum_of_bytes(output_gradient, in, offsets, gradient) + read);
  }
};

template <> struct OperatorAmount<&Operators::expert_up> {
  static SpanText of(std::string_view name, const SwigluOptions&, const ConstView& in, const ConstView& slot_token,
                     const ConstView& weights, const ConstView& bias, const ConstView& offsets, const View& gate_up,
                     const View& activated) {
    return amount::product(name, gate_up.extent(0), gate_up.extent(1), in.extent(1),
                           amount::sum_of_bytes(in, slot_token, weights, bias, offsets, gate_up, activated));
  }
};

template <> struct OperatorAmount<&Operators::expert_down_backward> {
  static SpanText of(std::string_view name, const SwigluOptions&, const SlotRouting& routing,
                     const ConstView& output_gradient, const ConstView& down, const ConstView& bias,
                     const View& gate_up, const View& activated, const View& weights_gradient) {
    return amount::product(
        name, gate_up.extent(0), activated.extent(1), output_gradient.extent(1),
        amount::sum_of_bytes(routing, output_gradient, down, bias, gate_up, gate_up, activated, weights_gradient));
  }
};

template <> struct OperatorAmount<&Operators::expert_weight_gradient> {
  static SpanText of(std::string_view name, TokenSide side, const ConstView& output_gradient, const ConstView& in,
                     const ConstView& slot_token, const ConstView& offsets, double beta, const View& gradient) {
    const std::int64_t slots = (side == TokenSide::in ? output_gradient : in).extent(0);
    const double read = beta == 0 ? 0 : amount::bytes(gradient);
    return amount::product(name, output_gradient.extent(1), in.extent(1), slots,
                           amount::sum_of_bytes(output_gradient, in, slot_token, offsets, gradient) + read);
  }
};

template <> struct OperatorAmount<&Operators::rms_norm_residual_forward> {
  static SpanText of(std::string_view name, const ConstView& residual, const ConstView& weight, double, const View& x,
                     const View& y, const View& inverse_rms) {
    return amount::plain(name, residual, weight, x, x, y, inverse_rms);
  }
};

template <> struct OperatorAmount<&Operators::rms_norm_backward> {
  static SpanText of(std::string_view name, const ConstView& x, const ConstView& weight, const ConstView& inverse_rms,
                     const ConstView& output_gradient, double beta, const View& x_gradient, const View& sums) {
    SpanText text = amount::plain(name, x, weight, inverse_rms, output_gradient, x_gradient, sums, sums);
    if (beta != 0) text.amount.bytes += amount::bytes(x_gradient);
    return text;
  }
};

/// Two products over the visible pairs.
template <> struct OperatorAmount<&Operators::attention_forward> {
  static SpanText of(std::string_view name, const AttentionMask& mask, double, const ConstView& q, const ConstView& k,
                     const ConstView& v, const View& out, const View& log_sum_exp) {
    SpanText text = amount::plain(name, mask, q, k, v, out, log_sum_exp);
    text.amount.flops = 2 * visible_pairs(mask, q, k) * static_cast<double>(q.extent(3) + v.extent(3));
    return text;
  }
};

/// Five.
template <> struct OperatorAmount<&Operators::attention_backward> {
  template <class... Views>
  static SpanText of(std::string_view name, const AttentionMask& mask, double, const ConstView& q, const ConstView& k,
                     const ConstView& v, const Views&... others) {
    SpanText text = amount::plain(name, mask, q, k, v, others...);
    text.amount.flops = 2 * visible_pairs(mask, q, k) * static_cast<double>(3 * q.extent(3) + 2 * v.extent(3));
    return text;
  }
};

/// Rows of the table that no token has are not touched.
template <> struct OperatorAmount<&Operators::embedding_forward> {
  static SpanText of(std::string_view name, const ConstView& table, const ConstView& ids, const View& y) {
    SpanText text = amount::plain(name, y, ids);
    text.amount.bytes += std::min(amount::bytes(table), amount::bytes(y));
    return text;
  }
};

}  // namespace moesaic
