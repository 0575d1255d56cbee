#include "moesaic/kernels/dispatch.hpp"

#include "moesaic/kernels/permutation.hpp"
#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

class DispatchGpu : public GpuTest {
 protected:
  /// The way of tokens to `ranks` and that of the weights' gradients back are the reference's.
  void check(std::int64_t tokens, std::int64_t top_k, std::int64_t ranks, std::int64_t experts_per_rank) {
    SCOPED_TRACE(fmt::format("{} tokens, top {}, {} ranks of {}", tokens, top_k, ranks, experts_per_rank));
    const std::int64_t columns = std::min(top_k, ranks);
    HostTensor indices(DType::i32, {tokens, top_k}), destinations(DType::i32, {tokens, columns});
    fill_random_integers(indices, 1, -1, ranks * experts_per_rank - 1);
    reference::dispatch_destinations(on_host, indices, experts_per_rank, destinations);
    HostTensor offsets(DType::i64, {ranks + 1}), slot_token(DType::i32, {tokens * columns}),
        token_slot(DType::i32, {tokens, columns});
    reference::sort_by_key(on_host, destinations, offsets, slot_token, token_slot);
    const auto slots = static_cast<std::int64_t>(element(offsets, ranks));
    const HostTensor weights = random_tensor(DType::f32, {tokens, top_k}, 2),
                     gradient = random_tensor(DType::f32, {slots, top_k}, 3);
    HostTensor slot_indices(DType::i32, {slots, top_k}), slot_weights(DType::f32, {slots, top_k}),
        weights_gradient(DType::f32, {tokens, top_k});
    reference::dispatch_routing(on_host, indices, weights, slot_token, offsets, experts_per_rank, slot_indices,
                                slot_weights);
    reference::dispatch_weights_gradient(on_host, indices, destinations, token_slot, experts_per_rank, gradient,
                                         weights_gradient);

    const Tensor device_indices = to_device(indices), device_destinations = poisoned(DType::i32, {tokens, columns});
    const Tensor device_slot_indices = poisoned(DType::i32, {slots, top_k}),
                 device_slot_weights = poisoned(DType::f32, {slots, top_k});
    const Tensor device_gradient = poisoned(DType::f32, {tokens, top_k});
    cuda::dispatch_destinations(context, device_indices, experts_per_rank, device_destinations);
    cuda::dispatch_routing(context, device_indices, to_device(weights), to_device(slot_token), to_device(offsets),
                           experts_per_rank, device_slot_indices, device_slot_weights);
    cuda::dispatch_weights_gradient(context, device_indices, device_destinations, to_device(token_slot),
                                    experts_per_rank, to_device(gradient), device_gradient);
    EXPECT_EQ(max_difference(to_host(device_destinations), destinations), 0);
    EXPECT_EQ(max_difference(to_host(device_slot_indices), slot_indices), 0);
    EXPECT_EQ(max_difference(to_host(device_slot_weights), slot_weights), 0);
    EXPECT_EQ(max_difference(to_host(device_gradient), weights_gradient), 0);
  }
};

TEST_F(DispatchGpu, EverySize) {
  for (const std::int64_t tokens : {0, 1, 131, 4099}) {
    check(tokens, 8, 4, 16);
    check(tokens, 2, 7, 3);
    check(tokens, 6, 1, 64);
  }
}

}  // namespace
}  // namespace moesaic
