#include "moesaic/kernels/profiled_operators.hpp"

#include <gtest/gtest.h>

#include "support/host_context.hpp"
#include "support/host_tensor.hpp"

namespace moesaic {
namespace {

class ProfiledOperators : public ::testing::Test {
 protected:
  /// What `run` leaves in the timeline, which must be one span.
  template <class Run> Span span_of(Run&& run) {
    Timeline timeline(host_stream);
    timeline.start();
    run(profiled_operators());
    const std::vector<Span> spans = timeline.stop();
    EXPECT_EQ(spans.size(), 1u);
    return spans.empty() ? Span() : spans.front();
  }
  /// Visible pairs of one head, from the FLOPs of attention over widths 1 and 1: 2 * pairs * (1 + 1).
  double pairs(const AttentionMask& mask, std::int64_t queries, std::int64_t keys) {
    const HostTensor q(DType::f32, {1, queries, 1, 1}), k(DType::f32, {1, keys, 1, 1});
    HostTensor out(DType::f32, {1, queries, 1, 1}), log_sum_exp(DType::f32, {1, 1, queries});
    const Span span =
        span_of([&](const Operators& ops) { ops.attention_forward(context, mask, 1, q, k, k, out, log_sum_exp); });
    return span.text.amount.flops / 4;
  }

  HostContext context;
};

TEST_F(ProfiledOperators, DoWhatTheOthersDoAndSayIt) {
  HostTensor values = make_tensor(DType::f32, {2}, {1, 2});
  const Span span = span_of([&](const Operators& ops) { ops.scale(context, 3, values); });
  EXPECT_EQ(elements(values), (std::vector<double>{3, 6}));
  EXPECT_EQ(span.kind, SpanKind::operation);
  EXPECT_EQ(span.text.name, "scale");
  EXPECT_EQ(span.text.detail, "");
  EXPECT_EQ(span.text.amount.bytes, 16);  // two numbers read and written
  EXPECT_EQ(span.text.amount.flops, 0);
}

TEST_F(ProfiledOperators, DoTheirWorkWhileNoTimelineRecords) {
  HostTensor values = make_tensor(DType::f32, {2}, {1, 2});
  profiled_operators().scale(context, 3, values);
  EXPECT_EQ(elements(values), (std::vector<double>{3, 6}));
}

TEST_F(ProfiledOperators, ProductsCountFlopsAndWhatIsAddedToTwice) {
  const HostTensor a(DType::f32, {2, 4}), b(DType::f32, {4, 3});
  HostTensor c(DType::f32, {2, 3});
  const auto gemm = [&](double beta) {
    return span_of([&](const Operators& ops) { ops.gemm(context, Transpose::no, Transpose::no, 1, a, b, beta, c); });
  };
  EXPECT_EQ(gemm(0).text.detail, "2x3x4");
  EXPECT_EQ(gemm(0).text.amount.flops, 48);
  EXPECT_EQ(gemm(0).text.amount.bytes, 4 * (8 + 12 + 6));
  EXPECT_EQ(gemm(1).text.amount.bytes, 4 * (8 + 12 + 6 + 6));
}

TEST_F(ProfiledOperators, GroupedProductsCountTheirRowsOnce) {
  const HostTensor rows(DType::f32, {5, 4}), weights(DType::f32, {2, 3, 4});
  const HostTensor offsets = make_tensor(DType::i64, {3}, {0, 2, 5});
  HostTensor out(DType::f32, {5, 3});
  const Span span =
      span_of([&](const Operators& ops) { ops.grouped_gemm(context, Transpose::yes, rows, weights, offsets, out); });
  EXPECT_EQ(span.text.detail, "5x3x4");
  EXPECT_EQ(span.text.amount.flops, 2 * 5 * 3 * 4);
  EXPECT_EQ(span.text.amount.bytes, 4 * (20 + 24 + 15) + 8 * 3);
}

TEST_F(ProfiledOperators, AttentionCountsThePairsThatTheMaskShows) {
  EXPECT_EQ(pairs({.causal = false}, 3, 4), 12);
  EXPECT_EQ(pairs({}, 4, 4), 10);             // 1 + 2 + 3 + 4
  EXPECT_EQ(pairs({}, 2, 4), 7);              // both end together: 3 + 4
  EXPECT_EQ(pairs({.offset = 0}, 2, 4), 3);   // 1 + 2
  EXPECT_EQ(pairs({.window = 2}, 4, 4), 7);   // 1 + 2 + 2 + 2
  EXPECT_EQ(pairs({.offset = -4}, 3, 4), 0);  // all keys lie later
  EXPECT_EQ(pairs({.causal = true, .offset = 9}, 3, 4), 12);
}

TEST_F(ProfiledOperators, NameTheShapeOfTheLargestView) {
  const HostTensor x(DType::f32, {3, 2}), weight = make_tensor(DType::f32, {2}, {1, 1});
  HostTensor y(DType::f32, {3, 2}), inverse_rms(DType::f32, {3});
  const Span span =
      span_of([&](const Operators& ops) { ops.rms_norm_forward(context, x, weight, 1e-6, y, inverse_rms); });
  EXPECT_EQ(span.text.detail, "3x2");
  EXPECT_EQ(span.text.amount.bytes, 4 * (6 + 2 + 6 + 3));
}

}  // namespace
}  // namespace moesaic
