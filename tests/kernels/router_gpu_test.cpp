#include "moesaic/kernels/router.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

/// What one router gives for one batch.
struct Results {
  HostTensor probabilities, indices, weights, logits_gradient, counts, sums;
};

RouterOptions softmax(std::int64_t top_k, bool renormalise = true) {
  return {.top_k = top_k, .renormalise = renormalise};
}

RouterOptions sigmoid(std::int64_t top_k, std::int64_t groups = 1, std::int64_t top_groups = 1) {
  return {.top_k = top_k, .scores = RouterScores::sigmoid, .groups = groups, .top_groups = top_groups, .scale = 2.5};
}

class RouterGpu : public GpuTest {
 protected:
  /// All operators agree with the reference (the choice of experts exactly), and a second run gives the same bits.
  void check(std::int64_t tokens, std::int64_t experts, const RouterOptions& options, std::int64_t groups = 1) {
    SCOPED_TRACE(fmt::format("[{}, {}] top {} of {} groups, {} of tokens", tokens, experts, options.top_k,
                             options.groups, groups));
    logits = random_tensor(DType::f32, {tokens, experts}, 1, 4);
    bias = random_tensor(DType::f32, {experts}, 2, 0.125);
    weights_gradient = random_tensor(DType::f32, {tokens, options.top_k}, 3);
    balance_gradient = random_tensor(DType::f32, {groups, experts}, 4, 0.125);
    const Results expected = run_reference(options, groups), first = run(options, groups),
                  second = run(options, groups);
    EXPECT_EQ(max_difference(first.indices, expected.indices), 0);
    EXPECT_EQ(max_difference(first.counts, expected.counts), 0);
    compare(first.probabilities, second.probabilities, expected.probabilities);
    compare(first.weights, second.weights, expected.weights);
    compare(first.logits_gradient, second.logits_gradient, expected.logits_gradient);
    compare(first.sums, second.sums, expected.sums);
    EXPECT_EQ(arena->used(Label::workspace), 0);
  }

 private:
  static void compare(ConstView first, ConstView second, ConstView expected) {
    EXPECT_LT(relative_error(first, expected), 1e-5);
    EXPECT_EQ(max_difference(first, second), 0);
  }

  Results run_reference(const RouterOptions& options, std::int64_t groups) {
    const std::int64_t tokens = logits.view().extent(0), experts = logits.view().extent(1);
    const HostTensor bias64 = converted(bias, DType::f64);
    Results r{HostTensor(DType::f64, {tokens, experts}),       HostTensor(DType::i32, {tokens, options.top_k}),
              HostTensor(DType::f64, {tokens, options.top_k}), HostTensor(DType::f64, {tokens, experts}),
              HostTensor(DType::i64, {groups, experts}),       HostTensor(DType::f64, {groups, experts})};
    reference::router_forward(on_host, options, converted(logits, DType::f64), bias64, r.probabilities, r.indices,
                              r.weights, r.counts, r.sums);
    reference::router_backward(on_host, options, r.probabilities, r.indices, converted(weights_gradient, DType::f64),
                               converted(balance_gradient, DType::f64), r.logits_gradient);
    return r;
  }

  /// In place, as the layer does: probabilities over logits.
  Results run(const RouterOptions& options, std::int64_t groups) {
    const std::int64_t tokens = logits.view().extent(0), experts = logits.view().extent(1);
    const Tensor probabilities = to_device(logits), indices = poisoned(DType::i32, {tokens, options.top_k});
    const Tensor weights = poisoned(DType::f32, {tokens, options.top_k}),
                 gradient = poisoned(DType::f32, {tokens, experts});
    const Tensor counts = poisoned(DType::i64, {groups, experts}), sums = poisoned(DType::f32, {groups, experts});
    cuda::router_forward(context, options, probabilities, to_device(bias), probabilities, indices, weights, counts,
                         sums);
    cuda::router_backward(context, options, probabilities, indices, to_device(weights_gradient),
                          to_device(balance_gradient), gradient);
    const Tensor same_counts = poisoned(DType::i64, {groups, experts}),
                 same_sums = poisoned(DType::f32, {groups, experts});
    cuda::router_statistics(context, options.scores, probabilities, indices, same_counts, same_sums);
    EXPECT_EQ(max_difference(to_host(same_counts), to_host(counts)), 0);
    EXPECT_LT(relative_error(to_host(same_sums), to_host(sums)), 1e-5);
    return {to_host(probabilities), to_host(indices), to_host(weights),
            to_host(gradient),      to_host(counts),  to_host(sums)};
  }

  HostTensor logits{DType::f32, {0}}, bias{DType::f32, {0}}, weights_gradient{DType::f32, {0}};
  HostTensor balance_gradient{DType::f32, {0}};
};

TEST_F(RouterGpu, Softmax) {
  for (const std::int64_t tokens : {0, 1, 131, 4099}) check(tokens, 128, softmax(8));
  for (const std::int64_t experts : {1, 7, 32, 33, 131, 512, 1031}) check(131, experts, softmax(1));
  check(131, 7, softmax(7));
  check(131, 512, softmax(22, false));
  check(4 * 131, 64, softmax(6, false), 4);
}

TEST_F(RouterGpu, Sigmoid) {
  for (const std::int64_t tokens : {0, 1, 131, 4099}) check(tokens, 256, sigmoid(8, 8, 4));
  check(131, 64, sigmoid(6));
  check(4099, 256, sigmoid(8), 1);
  check(131, 12, sigmoid(3, 12, 5));
  check(131, 64, sigmoid(4, 32, 31));
  check(2 * 131, 128, sigmoid(8, 4, 1), 2);
}

TEST_F(RouterGpu, EqualScoresTakeTheLowerIndexAndNotANumberComesLast) {
  HostTensor rows(DType::f32, {3, 40});
  for (std::int64_t e = 0; e < 40; ++e) set_element(rows, 40 + e, NAN);
  for (const std::int64_t e : {3, 38}) set_element(rows, 80 + e, 5);
  const Tensor probabilities = to_device(rows), indices = poisoned(DType::i32, {3, 3}),
               weights = poisoned(DType::f32, {3, 3});
  cuda::router_forward(context, softmax(3), probabilities, {}, probabilities, indices, weights, {}, {});
  EXPECT_EQ(elements(to_host(indices)), (std::vector<double>{0, 1, 2, 0, 1, 2, 3, 38, 0}));
  EXPECT_TRUE(std::isnan(element(to_host(weights), 3)));
}

TEST_F(RouterGpu, BalanceLoss) {
  for (const std::int64_t groups : {1, 3}) {
    for (const std::int64_t experts : {1, 64, 131}) {
      HostTensor counts(DType::i64, {groups, experts}), sums = random_tensor(DType::f32, {groups, experts}, 1);
      fill_random_integers(counts, 2, 0, 100);
      HostTensor loss(DType::f64, {1}), gradient(DType::f64, {groups, experts});
      reference::balance_loss(on_host, counts, converted(sums, DType::f64), 131, 8, 0.01, loss, gradient);
      const Tensor device_loss = poisoned(DType::f32, {1}), device_gradient = poisoned(DType::f32, {groups, experts});
      cuda::balance_loss(context, to_device(counts), to_device(sums), 131, 8, 0.01, device_loss, device_gradient);
      EXPECT_LT(relative_error(to_host(device_loss), loss), 1e-5);
      EXPECT_LT(relative_error(to_host(device_gradient), gradient), 1e-5);
    }
  }
}

TEST_F(RouterGpu, BalancedRouting) {
  for (const std::int64_t tokens : {0, 1, 131}) {
    HostTensor positions(DType::i32, {tokens}), indices(DType::i32, {tokens, 6}), weights(DType::f32, {tokens, 6});
    fill_random_integers(positions, 1, 0, 1 << 20);
    reference::balanced_routing(on_host, positions, 131, indices, weights);
    const Tensor device_indices = poisoned(DType::i32, {tokens, 6}), device_weights = poisoned(DType::f32, {tokens, 6});
    cuda::balanced_routing(context, to_device(positions), 131, device_indices, device_weights);
    EXPECT_EQ(max_difference(to_host(device_indices), indices), 0);
    EXPECT_EQ(max_difference(to_host(device_weights), weights), 0);
  }
}

TEST_F(RouterGpu, RefusesWhatItHasNoKernelFor) {
  const Tensor x = to_device(random_tensor(DType::f32, {2, 40}, 1)), x64 = poisoned(DType::f64, {2, 40});
  const Tensor indices = poisoned(DType::i32, {2, 33}), weights = poisoned(DType::f32, {2, 33});
  EXPECT_THROW(cuda::router_forward(context, softmax(33), x, {}, x, indices, weights, {}, {}), ContractError);
  EXPECT_THROW(cuda::router_forward(context, softmax(1), x64, {}, x64, indices, weights, {}, {}), ContractError);
}

}  // namespace
}  // namespace moesaic
