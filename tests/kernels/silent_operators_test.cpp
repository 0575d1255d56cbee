#include "moesaic/kernels/silent_operators.hpp"

#include <gtest/gtest.h>

#include "moesaic/kernels/attention_workspace.hpp"
#include "support/host_tensor.hpp"

namespace moesaic {
namespace {

TEST(SilentOperators, AreAllThereAndTouchNothing) {
  const Operators& silent = silent_operators(DeviceKind::cpu);
  Arena arena(host_memory());
  HostTensor values(DType::f32, {3});
  silent.fill({host_stream, &arena}, 7, values);
  silent.copy({host_stream, &arena}, ConstView(), values);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(element(values, i), 0);
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda}) {
    const Operators& table = silent_operators(device);
    const auto* pointers = reinterpret_cast<void (*const*)()>(&table);
    for (std::size_t i = 0; i < sizeof(Operators) / sizeof(void (*)()); ++i) EXPECT_NE(pointers[i], nullptr) << i;
  }
}

TEST(SilentOperators, TakeAttentionsWorkspaceAndGiveItBack) {
  Arena arena(host_memory(), std::int64_t{1} << 33);
  HostTensor q(DType::f32, {1, 10, 3, 8}), k(DType::f32, {1, 20, 1, 8});
  const AttentionMask mask;
  for (const bool deterministic : {true, false}) {
    arena.reset_peaks();
    for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda})
      silent_operators(device).attention_backward({host_stream, &arena, deterministic}, mask, 1, q, k, k, q, q, q, q, k,
                                                  k);
    const std::int64_t bytes = attention_backward_workspace({1, 10, 20, 3, 1, 8, 8}, deterministic);
    EXPECT_EQ(arena.peak(Label::workspace), (bytes + 255) / 256 * 256);
    EXPECT_EQ(arena.used(), 0);
  }
}

TEST(SilentOperators, TakeTheWorkspaceOfTheMask) {
  Arena arena(host_memory(), std::int64_t{1} << 33);
  const HostTensor q(DType::bf16, {1, 64, 4, 64}), k(DType::bf16, {1, 64, 1, 64});
  HostTensor gradient(DType::bf16, {1, 64, 4, 64});
  const HostTensor documents(DType::i32, {1, 64});
  const auto taken = [&](const AttentionMask& mask) {
    arena.reset_peaks();
    silent_operators(DeviceKind::cuda)
        .attention_backward({host_stream, &arena, true}, mask, 1, q, k, k, q, q, q, gradient, gradient, gradient);
    return arena.peak(Label::workspace);
  };
  EXPECT_EQ(taken({.window = 16}), 64 * 4 * 8);
  EXPECT_EQ(taken({.query_documents = documents, .key_documents = documents}), 64 * 4 * 8 + 256);  // 2 ranges, padded
}

}  // namespace
}  // namespace moesaic
