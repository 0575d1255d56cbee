// Results depend on the arguments alone, not on how many threads computed them.
#include <gtest/gtest.h>

#include <omp.h>

#include "moesaic/kernels/operators.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t tokens = 1031, experts = 131, width = 257, top_k = 8;

/// One result after another of operators that divide their work among threads.
struct Results {
  HostTensor probabilities{DType::f32, {tokens, experts}}, indices{DType::i32, {tokens, top_k}};
  HostTensor weights{DType::f32, {tokens, top_k}}, logits_gradient{DType::f32, {tokens, experts}};
  HostTensor counts{DType::i64, {1, experts}}, sums{DType::f32, {1, experts}};
  HostTensor offsets{DType::i64, {experts + 1}}, slot_token{DType::i32, {tokens * top_k}};
  HostTensor token_slot{DType::i32, {tokens, top_k}}, slots{DType::f32, {tokens * top_k, width}};
  HostTensor combined{DType::f32, {tokens, width}}, weights_gradient{DType::f32, {tokens, top_k}};
  HostTensor slots_gradient{DType::f32, {tokens * top_k, width}}, table_gradient{DType::f32, {7, width}};
  HostTensor losses{DType::f32, {tokens}}, log_sum_exp{DType::f32, {tokens}};
};

Results compute(int threads) {
  omp_set_num_threads(threads);
  Results r;
  const RouterOptions options{.top_k = top_k};
  const HostTensor logits = random_tensor(DType::f32, {tokens, experts}, 1, 4);
  const HostTensor rows = random_tensor(DType::f32, {tokens, width}, 2);
  HostTensor ids(DType::i32, {tokens});
  fill_random_integers(ids, 3, 0, 6);
  const Operators& k = operators(DeviceKind::cpu);
  k.router_forward({}, options, logits, {}, r.probabilities, r.indices, r.weights, {}, {});
  k.router_statistics({}, RouterScores::softmax, r.probabilities, r.indices, r.counts, r.sums);
  k.sort_by_key({}, r.indices, r.offsets, r.slot_token, r.token_slot);
  k.gather_rows({}, rows, r.slot_token, r.slots);
  k.combine_rows({}, r.slots, r.token_slot, r.weights, r.combined);
  k.combine_rows_backward({}, r.slots, r.token_slot, r.weights, rows, r.slots_gradient, r.weights_gradient);
  k.router_backward({}, options, r.probabilities, r.indices, r.weights_gradient, {}, r.logits_gradient);
  k.embedding_backward({}, ids, rows, r.table_gradient);
  k.cross_entropy_forward({}, logits, ids, r.losses, r.log_sum_exp);
  return r;
}

TEST(Threads, DoNotChangeOneBit) {
  const Results one = compute(1);
  for (const int threads : {2, 3, 8}) {
    const Results many = compute(threads);
    for (const auto member :
         {&Results::probabilities, &Results::indices, &Results::weights, &Results::logits_gradient, &Results::sums,
          &Results::token_slot, &Results::slots, &Results::combined, &Results::weights_gradient,
          &Results::slots_gradient, &Results::table_gradient, &Results::losses, &Results::log_sum_exp}) {
      EXPECT_EQ(max_difference(one.*member, many.*member), 0) << threads << " threads";
    }
  }
}

}  // namespace
}  // namespace moesaic
