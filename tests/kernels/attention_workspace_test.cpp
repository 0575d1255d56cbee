#include "moesaic/kernels/attention_workspace.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

constexpr std::int64_t mib = std::int64_t{1} << 20;

TEST(AttentionWorkspace, DeterministicBackwardKeepsAMatrixAHead) {
  // 4 sequences x 32 heads x 4096^2 x 2 bytes; the gradients of keys and values for each of 32 heads 2 x 128 MiB; 2 MiB.
  EXPECT_EQ(attention_backward_workspace({4, 4096, 4096, 32, 4, 128, 128}, true), (4096 + 256 + 2) * mib);
  // Where each head has its own keys nothing is kept twice.
  EXPECT_EQ(attention_backward_workspace({1, 4096, 4096, 128, 128, 192, 128}, true), (4096 + 2) * mib);
}

TEST(AttentionWorkspace, OtherBackwardKeepsQueryGradients) {
  EXPECT_EQ(attention_backward_workspace({4, 4096, 4096, 32, 4, 128, 128}, false), (256 + 256 + 2) * mib);
  EXPECT_EQ(attention_backward_workspace({1, 4096, 4096, 128, 128, 192, 128}, false), (384 + 2) * mib);
}

TEST(AttentionWorkspace, PartsOfTheBatchThenOfTheHeads) {
  const auto part = [](const AttentionSizes& sizes) {
    const AttentionPart result = deterministic_attention_part(sizes);
    return std::pair(result.sequences, result.key_heads);
  };
  EXPECT_EQ(part({4, 4096, 4096, 32, 4, 128, 128}), std::pair(4L, 4L));    // 1 GiB a sequence
  EXPECT_EQ(part({6, 4096, 4096, 32, 4, 128, 128}), std::pair(3L, 4L));    // equal parts
  EXPECT_EQ(part({2, 16384, 16384, 32, 4, 128, 128}), std::pair(1L, 1L));  // 4 GiB a key head
  EXPECT_EQ(part({2, 16384, 16384, 12, 6, 128, 128}), std::pair(1L, 3L));  // 1 GiB a key head, a divisor of 6
  EXPECT_EQ(part({1, 32768, 32768, 32, 4, 128, 128}), std::pair(1L, 1L));  // above the bound: there is no less
}

TEST(AttentionWorkspace, NothingToDo) {
  EXPECT_EQ(attention_backward_workspace({0, 4096, 4096, 32, 4, 128, 128}, true), 0);
}

}  // namespace
}  // namespace moesaic
