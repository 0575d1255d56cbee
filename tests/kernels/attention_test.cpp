#include "moesaic/kernels/attention.hpp"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <limits>

#include "support/finite_difference.hpp"
#include "support/host_context.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

HostContext context;

struct Sizes {
  std::int64_t batch, queries, keys, heads, key_heads, width, value_width;
};

/// Operands of one attention, and its definition in double.
struct Attention {
  Attention(DType type, const Sizes& sizes)
      : s(sizes), q(random_tensor(type, {s.batch, s.queries, s.heads, s.width}, 1, 2)),
        k(random_tensor(type, {s.batch, s.keys, s.key_heads, s.width}, 2, 2)),
        v(random_tensor(type, {s.batch, s.keys, s.key_heads, s.value_width}, 3)),
        out(type, {s.batch, s.queries, s.heads, s.value_width}), log_sum_exp(type, {s.batch, s.heads, s.queries}),
        dout(random_tensor(type, {s.batch, s.queries, s.heads, s.value_width}, 4)), dq(type, q.view().extents()),
        dk(type, k.view().extents()), dv(type, v.view().extents()) {
    for (HostTensor* result : {&out, &log_sum_exp, &dq, &dk, &dv}) poison(*result);
  }
  void set_documents(HostTensor& query_documents, HostTensor& key_documents) {
    mask.query_documents = query_documents;
    mask.key_documents = key_documents;
  }
  double scale() const { return 1 / std::sqrt(static_cast<double>(s.width)); }

  void forward() { reference::attention_forward(context, mask, scale(), q, k, v, out, log_sum_exp); }
  void backward() {
    reference::attention_backward(context, mask, scale(), q, k, v, out, log_sum_exp, dout, dq, dk, dv);
  }

  bool visible(std::int64_t b, std::int64_t i, std::int64_t j) const {
    const std::int64_t position = i + mask.offset.value_or(s.keys - s.queries);
    if (mask.causal && j > position) return false;
    if (mask.window > 0 && position - j >= mask.window) return false;
    return mask.query_documents.absent() ||
           element(mask.query_documents, b * s.queries + i) == element(mask.key_documents, b * s.keys + j);
  }
  double score(std::int64_t b, std::int64_t i, std::int64_t a, std::int64_t j) const {
    const std::int64_t g = a / (s.heads / s.key_heads);
    double sum = 0;
    for (std::int64_t c = 0; c < s.width; ++c)
      sum += element(q, ((b * s.queries + i) * s.heads + a) * s.width + c) *
             element(k, ((b * s.keys + j) * s.key_heads + g) * s.width + c);
    return scale() * sum;
  }
  /// Compares one row of out and log_sum_exp with softmax written out.
  void check_row(std::int64_t b, std::int64_t i, std::int64_t a, double tolerance) const {
    std::vector<double> expected(static_cast<std::size_t>(s.value_width));
    double sum = 0;
    for (std::int64_t j = 0; j < s.keys; ++j) {
      if (!visible(b, i, j)) continue;
      const double e = std::exp(score(b, i, a, j));
      sum += e;
      for (std::int64_t c = 0; c < s.value_width; ++c)
        expected[static_cast<std::size_t>(c)] +=
            e * element(v, ((b * s.keys + j) * s.key_heads + a / (s.heads / s.key_heads)) * s.value_width + c);
    }
    const double lse = element(log_sum_exp, (b * s.heads + a) * s.queries + i);
    if (sum == 0)
      EXPECT_EQ(lse, -std::numeric_limits<double>::infinity());
    else
      EXPECT_NEAR(lse, std::log(sum), tolerance);
    for (std::int64_t c = 0; c < s.value_width; ++c) {
      const double value = sum == 0 ? 0 : expected[static_cast<std::size_t>(c)] / sum;
      ASSERT_NEAR(element(out, ((b * s.queries + i) * s.heads + a) * s.value_width + c), value, tolerance)
          << "batch " << b << " query " << i << " head " << a;
    }
  }
  void check(double tolerance) const {
    for (std::int64_t b = 0; b < s.batch; ++b)
      for (std::int64_t i = 0; i < s.queries; ++i)
        for (std::int64_t a = 0; a < s.heads; ++a) check_row(b, i, a, tolerance);
  }
  void check_gradients() {
    forward();
    backward();
    const auto loss = [&] {
      forward();
      return inner_product(dout, out);
    };
    EXPECT_LT(max_gradient_error(loss, q, dq), 1e-6);
    EXPECT_LT(max_gradient_error(loss, k, dk), 1e-6);
    EXPECT_LT(max_gradient_error(loss, v, dv), 1e-6);
  }

  Sizes s;
  AttentionMask mask;
  HostTensor q, k, v, out, log_sum_exp, dout, dq, dk, dv;
};

TEST(Attention, LiteralOfTwoPositions) {
  // The first query sees the first key alone; the second sees both, with scores 0 and ln 3: weights 1/4 and 3/4.
  const HostTensor q = make_tensor(DType::f64, {1, 2, 1, 1}, {5, 1}), v = make_tensor(DType::f64, {1, 2, 1, 1}, {4, 8});
  const HostTensor k = make_tensor(DType::f64, {1, 2, 1, 1}, {0, std::log(3.0)});
  HostTensor out(DType::f64, {1, 2, 1, 1}), log_sum_exp(DType::f64, {1, 1, 2});
  reference::attention_forward(context, {}, 1, q, k, v, out, log_sum_exp);
  EXPECT_NEAR(element(out, 0), 4, 1e-15);
  EXPECT_NEAR(element(out, 1), 7, 1e-14);
  EXPECT_NEAR(element(log_sum_exp, 0), 0, 1e-15);
  EXPECT_NEAR(element(log_sum_exp, 1), std::log(4.0), 1e-15);
}

class AttentionSizes : public ::testing::TestWithParam<Sizes> {};

TEST_P(AttentionSizes, FollowsTheDefinition) {
  for (const bool causal : {true, false}) {
    Attention exact(DType::f64, GetParam()), single(DType::f32, GetParam());
    exact.mask.causal = single.mask.causal = causal;
    for (Attention* attention : {&exact, &single}) {
      attention->forward();
      attention->backward();
    }
    exact.check(1e-12);
    single.check(2e-5);
    EXPECT_LT(max_difference(single.dq, exact.dq), 1e-4);
    EXPECT_LT(max_difference(single.dk, exact.dk), 1e-4);
    EXPECT_LT(max_difference(single.dv, exact.dv), 1e-4);
  }
}

// Blocks of queries and keys that are whole, cut and absent; one head, groups, other widths of values; no rows at all.
INSTANTIATE_TEST_SUITE_P(Sizes, AttentionSizes,
                         ::testing::Values(Sizes{1, 1, 1, 1, 1, 1, 1}, Sizes{0, 3, 3, 2, 1, 4, 4},
                                           Sizes{2, 0, 5, 2, 1, 4, 4}, Sizes{2, 5, 0, 2, 1, 4, 4},
                                           Sizes{2, 64, 64, 2, 2, 8, 8}, Sizes{1, 131, 131, 4, 2, 8, 5},
                                           Sizes{1, 70, 300, 6, 2, 3, 7}, Sizes{1, 131, 40, 2, 1, 4, 4}));

TEST(Attention, GradientsAreThoseOfFiniteDifferences) {
  Attention(DType::f64, {2, 7, 7, 4, 2, 3, 5}).check_gradients();
  Attention(DType::f64, {1, 3, 9, 2, 1, 4, 4}).check_gradients();
  Attention(DType::f64, {1, 9, 4, 2, 2, 2, 2}).check_gradients();
  Attention full(DType::f64, {1, 5, 6, 3, 1, 2, 2});
  full.mask.causal = false;
  full.check_gradients();
}

TEST(Attention, GradientsAcrossBlocks) {
  Attention attention(DType::f64, {1, 131, 139, 1, 1, 1, 1});
  attention.check_gradients();
}

TEST(Attention, TheOffsetPlacesQueriesAmongKeys) {
  for (const std::int64_t offset : {-9, -2, 0, 3, 100}) {
    Attention attention(DType::f64, {2, 5, 7, 2, 1, 3, 3});
    attention.mask.offset = offset;
    attention.check_gradients();
    attention.forward();
    attention.check(1e-13);
  }
}

TEST(Attention, AWindowSeesTheLastKeysOnly) {
  for (const std::int64_t window : {1, 2, 5, 100}) {
    for (const bool causal : {true, false}) {
      Attention attention(DType::f64, {2, 6, 8, 4, 2, 3, 2});
      attention.mask.causal = causal;
      attention.mask.window = window;
      attention.check_gradients();
      attention.forward();
      attention.check(1e-13);
    }
  }
}

TEST(Attention, WindowsOfAllSizesAcrossBlocks) {
  HostTensor documents(DType::i32, {1, 400});
  for (std::int64_t i = 0; i < 400; ++i) set_element(documents, i, i < 130 ? 3 : i < 300 ? 4 : 9);
  for (const std::int64_t window : {1, 63, 64, 128, 129, 200, 399}) {
    for (const bool cut : {false, true}) {
      Attention exact(DType::f64, {1, 400, 400, 2, 1, 4, 4}), single(DType::f32, {1, 400, 400, 2, 1, 4, 4});
      for (Attention* attention : {&exact, &single}) {
        attention->mask.window = window;
        if (cut) attention->set_documents(documents, documents);
        attention->forward();
        attention->backward();
      }
      exact.check(1e-12);
      single.check(2e-5);
      EXPECT_LT(max_difference(single.dq, exact.dq), 1e-4);
      EXPECT_LT(max_difference(single.dk, exact.dk), 1e-4);
      EXPECT_LT(max_difference(single.dv, exact.dv), 1e-4);
    }
  }
}

TEST(Attention, AWindowGoesWithTheOffset) {
  for (const std::int64_t offset :
       {-3, 0, 2, 6, 11, 30}) {  // before, among and so far behind the keys that none is seen
    Attention attention(DType::f64, {2, 5, 7, 2, 1, 3, 3});
    attention.mask.offset = offset;
    attention.mask.window = 4;
    attention.check_gradients();
    attention.forward();
    attention.check(1e-13);
  }
}

// A product with weights of zero would still make NaN of them.
TEST(Attention, WhatLiesOutsideTheWindowIsNotRead) {
  Attention attention(DType::f32, {1, 300, 300, 2, 1, 4, 4});
  attention.mask.offset = 400;
  attention.mask.window = 150;
  for (HostTensor* x : {&attention.k, &attention.v}) poison(x->view().slice(1, 0, 251));
  attention.forward();
  attention.backward();
  EXPECT_FALSE(std::isnan(inner_product(attention.dout, attention.out)));
  EXPECT_FALSE(std::isnan(inner_product(attention.q, attention.dq)));
  for (std::int64_t i = 0; i < 251 * 4; ++i) ASSERT_EQ(element(attention.dv, i), 0);
  EXPECT_NE(element(attention.dv, 251 * 4), 0);
}

TEST(Attention, DocumentsSeeOnlyThemselves) {
  HostTensor documents = make_tensor(DType::i32, {2, 6}, {0, 0, 0, 1, 1, 2, 5, 5, 5, 5, 5, 5});
  Attention attention(DType::f64, {2, 6, 6, 2, 1, 3, 3});
  attention.set_documents(documents, documents);
  attention.check_gradients();
  attention.forward();
  attention.check(1e-13);
}

TEST(Attention, DocumentsAcrossBlocksAreSkippedRightly) {
  HostTensor documents(DType::i32, {1, 400});
  for (std::int64_t i = 0; i < 400; ++i) set_element(documents, i, i < 130 ? 3 : i < 300 ? 4 : 9);
  for (const bool causal : {true, false}) {
    Attention attention(DType::f64, {1, 400, 400, 2, 1, 4, 4});
    attention.mask.causal = causal;
    attention.set_documents(documents, documents);
    attention.forward();
    attention.check(1e-12);
  }
}

TEST(Attention, RowsThatSeeNothingAreZero) {
  HostTensor queries = make_tensor(DType::i32, {1, 4}, {0, 7, 0, 8}),
             keys = make_tensor(DType::i32, {1, 4}, {0, 0, 0, 0});
  Attention attention(DType::f32, {1, 4, 4, 2, 2, 3, 3});
  attention.set_documents(queries, keys);
  attention.forward();
  attention.check(1e-5);
  attention.backward();
  for (std::int64_t i = 0; i < 6; ++i) {
    EXPECT_EQ(element(attention.dq, 1 * 6 + i), 0);
    EXPECT_EQ(element(attention.dq, 3 * 6 + i), 0);
    EXPECT_EQ(element(attention.dk, 3 * 6 + i), 0) << "no visible query comes after the last key";
    EXPECT_EQ(element(attention.dv, 3 * 6 + i), 0);
  }
}

TEST(Attention, TakesViewsOfOneProjection) {
  // q, k, v side by side in one row a token, as a fused projection leaves them; gradients go back likewise.
  Attention dense(DType::f64, {2, 67, 67, 4, 2, 4, 4});
  dense.forward();
  dense.backward();
  HostTensor fused(DType::f64, {2 * 67, 32}), gradient(DType::f64, {2 * 67, 32});
  const auto part = [](View rows, std::int64_t begin, std::int64_t heads) {
    return rows.slice(1, begin, begin + heads * 4).split_last(heads, 4).split_first(2, 67);
  };
  const View q = part(fused, 0, 4), k = part(fused, 16, 2), v = part(fused, 24, 2);
  assign(q, elements(dense.q));
  assign(k, elements(dense.k));
  assign(v, elements(dense.v));
  HostTensor out(DType::f64, {2, 67, 4, 4}), log_sum_exp(DType::f64, {2, 4, 67});
  reference::attention_forward(context, {}, dense.scale(), q, k, v, out, log_sum_exp);
  EXPECT_LT(max_difference(out, dense.out), 1e-13);
  const View dq = part(gradient, 0, 4), dk = part(gradient, 16, 2), dv = part(gradient, 24, 2);
  poison(gradient);
  reference::attention_backward(context, {}, dense.scale(), q, k, v, out, log_sum_exp, dense.dout, dq, dk, dv);
  EXPECT_LT(max_difference(dq, dense.dq), 1e-12);
  EXPECT_LT(max_difference(dk, dense.dk), 1e-12);
  EXPECT_LT(max_difference(dv, dense.dv), 1e-12);
}

TEST(Attention, LargeScoresDoNotOverflow) {
  const HostTensor q = make_tensor(DType::f32, {1, 2, 1, 1}, {1e4, 1e4}),
                   k = make_tensor(DType::f32, {1, 2, 1, 1}, {1e4, 1});
  const HostTensor v = make_tensor(DType::f32, {1, 2, 1, 1}, {3, 5});
  HostTensor out(DType::f32, {1, 2, 1, 1}), log_sum_exp(DType::f32, {1, 1, 2});
  reference::attention_forward(context, {}, 1, q, k, v, out, log_sum_exp);
  EXPECT_EQ(elements(out), (std::vector<double>{3, 3}));
  EXPECT_EQ(elements(log_sum_exp), (std::vector<double>{1e8, 1e8}));
}

TEST(Attention, NotANumberIsNotHidden) {
  Attention attention(DType::f32, {1, 3, 3, 1, 1, 2, 2});
  set_element(attention.q, 2, std::numeric_limits<double>::quiet_NaN());
  attention.forward();
  EXPECT_FALSE(std::isnan(element(attention.out, 0)));
  EXPECT_TRUE(std::isnan(element(attention.out, 2)));
}

TEST(Attention, BitsDoNotDependOnTheNumberOfThreadsAndScratchIsGivenBack) {
  const int threads = omp_get_max_threads();
  Attention one(DType::f32, {2, 150, 150, 4, 2, 8, 8}), three(DType::f32, {2, 150, 150, 4, 2, 8, 8});
  omp_set_num_threads(1);
  one.forward();
  one.backward();
  omp_set_num_threads(3);
  three.forward();
  three.backward();
  omp_set_num_threads(threads);
  EXPECT_EQ(max_difference(one.out, three.out), 0);
  EXPECT_EQ(max_difference(one.dq, three.dq), 0);
  EXPECT_EQ(max_difference(one.dk, three.dk), 0);
  EXPECT_EQ(max_difference(one.dv, three.dv), 0);
  EXPECT_EQ(context.arena().used(Label::workspace), 0);
}

}  // namespace
}  // namespace moesaic
