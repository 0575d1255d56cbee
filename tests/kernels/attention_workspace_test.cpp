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

TEST(AttentionWorkspace, WindowsAndDocumentsTakeTwoValuesAQuery) {
  // GPT-OSS: 2 sequences x 64 heads x 4096 queries x 8 bytes.
  AttentionSizes sizes{2, 4096, 4096, 64, 8, 64, 64, 128};
  EXPECT_EQ(attention_backward_workspace(sizes, true), 4 * mib);
  EXPECT_EQ(attention_backward_workspace(sizes, false), 4 * mib);
  // The ranges of documents of 64 tiles of queries and 64 of keys, 8 bytes each.
  sizes.window = 0;
  sizes.documents = true;
  EXPECT_EQ(attention_backward_workspace(sizes, true), 4 * mib + 2 * 128 * 8);
}

TEST(AttentionWorkspace, OwnKernelsRunInNarrowWindows) {
  const auto preferred = [](std::int64_t keys, std::int64_t window, bool deterministic) {
    return prefer_flash_backward({2, keys, keys, 64, 8, 64, 64, window}, deterministic);
  };
  EXPECT_TRUE(preferred(4096, 128, true) && preferred(4096, 128, false));
  EXPECT_TRUE(preferred(4096, 1024, true));
  EXPECT_FALSE(preferred(4096, 1025, true));   // cuDNN is as fast over all earlier keys
  EXPECT_FALSE(preferred(4096, 1024, false));  // and faster in any order
  EXPECT_FALSE(preferred(4096, 0, true) || preferred(400, 128, true));
  EXPECT_FALSE(prefer_flash_backward({2, 4096, 4096, 64, 8, 96, 96, 128}, true));
}

TEST(AttentionWorkspace, NothingToDo) {
  EXPECT_EQ(attention_backward_workspace({0, 4096, 4096, 32, 4, 128, 128}, true), 0);
}

}  // namespace
}  // namespace moesaic
