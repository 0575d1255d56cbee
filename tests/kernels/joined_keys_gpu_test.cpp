#include "moesaic/kernels/joined_keys.hpp"

#include "support/gpu.hpp"
#include "support/random.hpp"

namespace moesaic {
namespace {

class JoinedKeysGpu : public GpuTest {
 protected:
  void check(DType type, std::int64_t tokens, std::int64_t heads, std::int64_t own_width, std::int64_t shared_width) {
    SCOPED_TRACE(fmt::format("{} [{}, {}, {} + {}]", name_of(type), tokens, heads, own_width, shared_width));
    const Extents both{tokens, heads, own_width + shared_width};
    const HostTensor own = random_tensor(type, {tokens, heads, own_width}, 1);
    const HostTensor shared = random_tensor(type, {tokens, shared_width}, 2), gradient = random_tensor(type, both, 3);
    HostTensor expected(DType::f64, both), expected_own(DType::f64, own.view().extents());
    HostTensor expected_shared(DType::f64, shared.view().extents());
    reference::join_keys(on_host, converted(own, DType::f64), converted(shared, DType::f64), expected);
    reference::join_keys_backward(on_host, converted(gradient, DType::f64), expected_own, expected_shared);
    const Tensor keys = poisoned(type, both), own_gradient = poisoned(type, own.view().extents());
    const Tensor shared_gradient = poisoned(type, shared.view().extents());
    cuda::join_keys(context, to_device(own), to_device(shared), keys);
    cuda::join_keys_backward(context, to_device(gradient), own_gradient, shared_gradient);
    EXPECT_EQ(max_difference(to_host(keys), expected), 0);
    EXPECT_EQ(max_difference(to_host(own_gradient), expected_own), 0);
    EXPECT_LT(relative_error(to_host(shared_gradient), expected_shared), tolerance_of(type));
  }
};

TEST_F(JoinedKeysGpu, EverySizeAndType) {
  for (const DType type : {DType::f32, DType::bf16}) {
    for (const std::int64_t tokens : {0, 1, 131, 2053}) check(type, tokens, 3, 128, 64);
    check(type, 131, 16, 7, 5);
    check(type, 131, 1, 3, 1);
  }
}

/// Parts that lie within wider rows, as projections leave them.
TEST_F(JoinedKeysGpu, StridedParts) {
  const HostTensor projected = random_tensor(DType::f32, {131, 2 * 24}, 1),
                   latent = random_tensor(DType::f32, {131, 40}, 2);
  const auto own = [](auto view) { return view.split_last(2, 24).slice(2, 0, 16); };
  const auto shared = [](auto view) { return view.slice(1, 32, 40); };
  HostTensor expected(DType::f32, {131, 2, 24});
  reference::join_keys(on_host, own(projected.view()), shared(latent.view()), expected);
  const Tensor device_projected = to_device(projected), device_latent = to_device(latent);
  const Tensor keys = poisoned(DType::f32, {131, 2, 24});
  cuda::join_keys(context, own(device_projected.view()), shared(device_latent.view()), keys);
  EXPECT_EQ(max_difference(to_host(keys), expected), 0);
}

}  // namespace
}  // namespace moesaic
