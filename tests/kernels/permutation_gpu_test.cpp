#include "moesaic/kernels/permutation.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

struct Sorted {
  HostTensor offsets, slot_token, token_slot;
};

/// Keys of which some are -1; key 1 does not occur.
HostTensor keys_of(std::int64_t tokens, std::int64_t columns, std::int64_t num_keys, std::uint32_t seed = 1) {
  HostTensor keys(DType::i32, {tokens, columns});
  fill_random_integers(keys, seed, -1, num_keys - 1);
  for (std::int64_t i = 0; i < keys.view().size(); ++i) {
    if (element(keys, i) == 1) set_element(keys, i, -1);
  }
  return keys;
}

class PermutationGpu : public GpuTest {
 protected:
  Sorted sort_on_host(ConstView keys, std::int64_t num_keys) {
    Sorted s{HostTensor(DType::i64, {num_keys + 1}), HostTensor(DType::i32, {keys.size()}),
             HostTensor(DType::i32, keys.extents())};
    for (std::int64_t i = 0; i < keys.size(); ++i) set_element(s.slot_token, i, -1);  // what poison is as integers
    reference::sort_by_key(on_host, keys, s.offsets, s.slot_token, s.token_slot);
    return s;
  }

  void check_sort(ConstView keys, std::int64_t num_keys) {
    SCOPED_TRACE(fmt::format("[{}, {}] {} keys", keys.extent(0), keys.extent(1), num_keys));
    const Sorted expected = sort_on_host(keys, num_keys);
    const Tensor offsets = poisoned(DType::i64, {num_keys + 1}), slot_token = poisoned(DType::i32, {keys.size()});
    const Tensor token_slot = poisoned(DType::i32, keys.extents());
    cuda::sort_by_key(context, to_device(keys), offsets, slot_token, token_slot);
    EXPECT_EQ(max_difference(to_host(offsets), expected.offsets), 0);
    EXPECT_EQ(max_difference(to_host(slot_token), expected.slot_token), 0);
    EXPECT_EQ(max_difference(to_host(token_slot), expected.token_slot), 0);
    EXPECT_EQ(arena->used(Label::workspace), 0);
  }

  /// Tokens to slots and back, with rows of `width`; `weighted` as the experts, else as the exchange.
  void check_rows(DType type, std::int64_t tokens, std::int64_t width, bool weighted) {
    SCOPED_TRACE(fmt::format("{} [{}, {}] weighted {}", name_of(type), tokens, width, weighted));
    constexpr std::int64_t top_k = 5, num_keys = 9;
    const Sorted sorted = sort_on_host(keys_of(tokens, top_k, num_keys), num_keys);
    const auto slots = static_cast<std::int64_t>(element(sorted.offsets, num_keys));
    const HostTensor rows = random_tensor(type, {slots, width}, 2),
                     out_gradient = random_tensor(type, {tokens, width}, 3);
    const HostTensor weights = random_tensor(DType::f32, {tokens, top_k}, 4),
                     weights64 = converted(weights, DType::f64);
    HostTensor expected(DType::f64, {tokens, width}), expected_gradient(DType::f64, {slots, width});
    HostTensor expected_weights(DType::f64, {tokens, top_k});
    reference::combine_rows(on_host, converted(rows, DType::f64), sorted.token_slot,
                            weighted ? weights64.view() : ConstView(), expected);
    reference::combine_rows_backward(on_host, converted(rows, DType::f64), sorted.token_slot,
                                     weighted ? weights64.view() : ConstView(), converted(out_gradient, DType::f64),
                                     expected_gradient, expected_weights);
    const Tensor in = to_device(rows), token_slot = to_device(sorted.token_slot), device_weights = to_device(weights);
    const Tensor out = poisoned(type, {tokens, width}), gradient = poisoned(type, {slots, width});
    const Tensor weights_gradient = poisoned(DType::f32, {tokens, top_k}), device_gradient = to_device(out_gradient);
    const ConstView factors = weighted ? ConstView(device_weights) : ConstView();
    cuda::combine_rows(context, in, token_slot, factors, out);
    cuda::combine_rows_backward(context, {}, token_slot, factors, device_gradient, gradient, {});
    cuda::combine_rows_backward(context, in, token_slot, factors, device_gradient, in, weights_gradient);
    EXPECT_LT(relative_error(to_host(out), expected), tolerance_of(type));
    EXPECT_LT(relative_error(to_host(gradient), expected_gradient), tolerance_of(type));
    EXPECT_EQ(max_difference(to_host(gradient), to_host(in)), 0) << "with products or not, in place or not";
    EXPECT_LT(relative_error(to_host(weights_gradient), expected_weights), 1e-5);
  }

  void check_gather(DType type, std::int64_t slots, std::int64_t width) {
    const HostTensor in = random_tensor(type, {57, width}, 1);
    HostTensor slot_token(DType::i32, {slots}), expected(type, {slots, width});
    fill_random_integers(slot_token, 2, 0, 56);
    reference::gather_rows(on_host, in, slot_token, expected);
    const Tensor out = poisoned(type, {slots, width});
    cuda::gather_rows(context, to_device(in), to_device(slot_token), out);
    EXPECT_EQ(max_difference(to_host(out), expected), 0) << name_of(type) << slots << width;
  }
};

TEST_F(PermutationGpu, Sorts) {
  for (const std::int64_t tokens : {0, 1, 131, 20011}) {
    for (const std::int64_t num_keys : {2, 33, 128, 1000}) check_sort(keys_of(tokens, 8, num_keys), num_keys);
  }
  check_sort(keys_of(131, 1, 5), 5);
  check_sort(HostTensor(DType::i32, {4099, 3}), 64);  // all to key 0
  const HostTensor none = make_tensor(DType::i32, {7, 1}, std::vector<double>(7, -1));
  check_sort(none, 3);
}

TEST_F(PermutationGpu, GathersRows) {
  for (const DType type : {DType::f32, DType::bf16, DType::f64}) {
    for (const std::int64_t slots : {0, 1, 131, 4099}) check_gather(type, slots, 64);
    for (const std::int64_t width : {1, 33, 2048}) check_gather(type, 131, width);
  }
}

TEST_F(PermutationGpu, CombinesRows) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const bool weighted : {true, false}) {
      for (const std::int64_t tokens : {0, 1, 131, 4099}) check_rows(type, tokens, 64, weighted);
      for (const std::int64_t width : {1, 33, 2048}) check_rows(type, 131, width, weighted);
    }
  }
}

}  // namespace
}  // namespace moesaic
