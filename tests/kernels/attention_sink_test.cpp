#include "moesaic/kernels/attention_sink.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "moesaic/kernels/attention.hpp"
#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;
constexpr double infinity = std::numeric_limits<double>::infinity();

// Scores that sum to e^0 = 1 and a sink of ln 3: a quarter of the weight is left.
TEST(AttentionSink, Literals) {
  const HostTensor sinks = make_tensor(DType::f64, {1}, {std::log(3.0)});
  HostTensor out = make_tensor(DType::f64, {1, 1, 1, 2}, {8, 4}), log_sum_exp(DType::f64, {1, 1, 1});
  reference::attention_sink(context, sinks, out, log_sum_exp);
  EXPECT_NEAR(element(out, 0), 2, 1e-15);
  EXPECT_NEAR(element(out, 1), 1, 1e-15);
  EXPECT_NEAR(element(log_sum_exp, 0), std::log(4.0), 1e-15);
  HostTensor gradient = make_tensor(DType::f64, {1}, {10});
  reference::attention_sink_backward(context, sinks, out, log_sum_exp, make_tensor(DType::f64, {1, 1, 1, 2}, {1, 2}),
                                     gradient);
  EXPECT_NEAR(element(gradient, 0), 10 - 0.75 * (2 + 2), 1e-14);
}

TEST(AttentionSink, ExtremesStayFinite) {
  const HostTensor sinks = make_tensor(DType::f32, {4}, {1e4, -1e4, 2, -infinity});
  HostTensor out = make_tensor(DType::f32, {1, 1, 4, 1}, {5, 5, 0, 0});
  HostTensor log_sum_exp = make_tensor(DType::f32, {1, 4, 1}, {0, 0, -infinity, -infinity});
  reference::attention_sink(context, sinks, out, log_sum_exp);
  EXPECT_EQ(elements(out), (std::vector<double>{0, 5, 0, 0})) << "all to the sink, nothing to it, nothing visible";
  EXPECT_EQ(elements(log_sum_exp), (std::vector<double>{1e4, 0, 2, -infinity}));
  HostTensor gradient(DType::f32, {4});
  reference::attention_sink_backward(context, sinks, out, log_sum_exp,
                                     make_tensor(DType::f32, {1, 1, 4, 1}, {1, 1, 1, 1}), gradient);
  for (std::int64_t head = 0; head < 4; ++head) EXPECT_EQ(element(gradient, head), 0);
}

TEST(AttentionSink, NoQueries) {
  const HostTensor sinks = random_tensor(DType::f32, {2}, 1);
  HostTensor out(DType::f32, {1, 0, 2, 3}), log_sum_exp(DType::f32, {1, 2, 0}), gradient(DType::f32, {2});
  reference::attention_sink(context, sinks, out, log_sum_exp);
  reference::attention_sink_backward(context, sinks, out, log_sum_exp, out, gradient);
  EXPECT_EQ(elements(gradient), (std::vector<double>{0, 0}));
}

/// Attention with sinks: the operator behind attention, and its definition with a further key of value zero.
struct SinkAttention {
  explicit SinkAttention(DType type)
      : q(random_tensor(type, {2, queries, 4, 3}, 1, 2)), k(random_tensor(type, {2, keys, 2, 3}, 2, 2)),
        v(random_tensor(type, {2, keys, 2, 5}, 3)), sinks(random_tensor(type, {4}, 4, 2)),
        wide(type, {2, queries, 4, 7}), log_sum_exp(type, {2, 4, queries}),
        out_gradient(random_tensor(type, {2, queries, 4, 5}, 5)), dq(type, {2, queries, 4, 3}),
        dk(type, {2, keys, 2, 3}), dv(type, {2, keys, 2, 5}), dsinks(type, {4}) {}

  View out() { return wide.view().slice(3, 1, 6); }  // strided
  void forward() {
    reference::attention_forward(context, mask, 0.5, q, k, v, out(), log_sum_exp);
    reference::attention_sink(context, sinks, out(), log_sum_exp);
  }
  void backward() {
    reference::attention_sink_backward(context, sinks, out(), log_sum_exp, out_gradient, dsinks);
    reference::attention_backward(context, mask, 0.5, q, k, v, out(), log_sum_exp, out_gradient, dq, dk, dv);
  }
  double score(std::int64_t b, std::int64_t i, std::int64_t a, std::int64_t j) const {
    double sum = 0;
    for (std::int64_t c = 0; c < 3; ++c)
      sum += element(q, ((b * queries + i) * 4 + a) * 3 + c) * element(k, ((b * keys + j) * 2 + a / 2) * 3 + c);
    return 0.5 * sum;
  }
  void check_row(std::int64_t b, std::int64_t i, std::int64_t a, double tolerance) {
    double sum = std::exp(element(sinks, a));
    std::vector<double> expected(5);
    for (std::int64_t j = std::max<std::int64_t>(0, i + keys - queries - mask.window + 1); j <= i + keys - queries;
         ++j) {
      const double e = std::exp(score(b, i, a, j));
      sum += e;
      for (std::int64_t c = 0; c < 5; ++c)
        expected[static_cast<std::size_t>(c)] += e * element(v, ((b * keys + j) * 2 + a / 2) * 5 + c);
    }
    EXPECT_NEAR(element(log_sum_exp, (b * 4 + a) * queries + i), std::log(sum), tolerance);
    for (std::int64_t c = 0; c < 5; ++c)
      EXPECT_NEAR(element(out(), ((b * queries + i) * 4 + a) * 5 + c), expected[static_cast<std::size_t>(c)] / sum,
                  tolerance);
  }

  static constexpr std::int64_t queries = 7, keys = 9;
  AttentionMask mask{.window = 4};
  HostTensor q, k, v, sinks, wide, log_sum_exp, out_gradient, dq, dk, dv, dsinks;
};

TEST(AttentionSink, IsAFurtherKeyOfValueZero) {
  for (const DType type : {DType::f32, DType::f64}) {
    SinkAttention attention(type);
    attention.forward();
    for (std::int64_t b = 0; b < 2; ++b)
      for (std::int64_t i = 0; i < SinkAttention::queries; ++i)
        for (std::int64_t a = 0; a < 4; ++a) attention.check_row(b, i, a, type == DType::f32 ? 1e-5 : 1e-13);
  }
}

TEST(AttentionSink, AllGradientsAreThoseOfFiniteDifferences) {
  SinkAttention attention(DType::f64);
  attention.forward();
  attention.backward();
  const auto loss = [&] {
    attention.forward();
    return inner_product(attention.out_gradient, attention.out());
  };
  EXPECT_LT(max_gradient_error(loss, attention.sinks, attention.dsinks), 1e-6);
  EXPECT_LT(max_gradient_error(loss, attention.q, attention.dq), 1e-6);
  EXPECT_LT(max_gradient_error(loss, attention.k, attention.dk), 1e-6);
  EXPECT_LT(max_gradient_error(loss, attention.v, attention.dv), 1e-6);
}

TEST(AttentionSink, FloatAgreesWithDouble) {
  SinkAttention single(DType::f32), exact(DType::f64);
  for (SinkAttention* attention : {&single, &exact}) {
    attention->forward();
    attention->backward();
  }
  EXPECT_LT(max_difference(single.dsinks, exact.dsinks), 1e-5);
  EXPECT_LT(max_difference(single.dk, exact.dk), 1e-5);
}

}  // namespace
}  // namespace moesaic
