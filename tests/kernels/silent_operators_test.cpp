#include "moesaic/kernels/silent_operators.hpp"

#include <gtest/gtest.h>

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

/// 2 bytes a pair, lengths padded to 64: 2 * batch * heads * queries * keys.
TEST(AttentionWorkspace, IsOfTheWholeBatchWhereTheBoundAllows) {
  EXPECT_EQ(attention_workspace_bytes({4, 4096, 32, 128}, {4, 4096, 4, 128}), std::int64_t{4} << 30);
  EXPECT_EQ(attention_workspace_bytes({1, 10, 3, 8}, {1, 70, 1, 8}), 2 * 3 * 64 * 128);
  EXPECT_EQ(attention_workspace_bytes({0, 4096, 32, 128}, {0, 4096, 4, 128}), 0);
}

TEST(AttentionWorkspace, IsOfPartsBeyondTheBound) {
  constexpr std::int64_t gib = std::int64_t{1} << 30;
  EXPECT_EQ(attention_workspace_bytes({6, 4096, 32, 128}, {6, 4096, 4, 128}), 3 * gib);     // half of six sequences
  EXPECT_EQ(attention_workspace_bytes({1, 32768, 32, 128}, {1, 32768, 32, 128}), 4 * gib);  // two heads of 2 GiB
  EXPECT_EQ(attention_workspace_bytes({1, 32768, 32, 128}, {1, 32768, 4, 128}), 16 * gib);  // one key head at least
}

TEST(AttentionWorkspace, IsTakenAndGivenBack) {
  Arena arena(host_memory(), std::int64_t{1} << 33);
  HostTensor q(DType::f32, {1, 10, 3, 8}), k(DType::f32, {1, 20, 1, 8});
  const AttentionMask mask;
  for (const DeviceKind device : {DeviceKind::cpu, DeviceKind::cuda})
    silent_operators(device).attention_backward({host_stream, &arena}, mask, 1, q, k, k, q, q, q, q, k, k);
  EXPECT_EQ(arena.peak(Label::workspace), 2 * 3 * 64 * 64);
  EXPECT_EQ(arena.used(), 0);
}

}  // namespace
}  // namespace moesaic
