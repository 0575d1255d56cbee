#include "moesaic/grid/block.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace moesaic {
namespace {

TEST(Block, LargerBlocksComeFirst) {
  EXPECT_EQ(block_of(10, 4, 0), (Block{0, 3}));
  EXPECT_EQ(block_of(10, 4, 1), (Block{3, 6}));
  EXPECT_EQ(block_of(10, 4, 2), (Block{6, 8}));
  EXPECT_EQ(block_of(10, 4, 3), (Block{8, 10}));
}

TEST(Block, MorePartsThanElementsLeaveEmptyBlocks) {
  EXPECT_EQ(block_of(2, 4, 1), (Block{1, 2}));
  EXPECT_TRUE(block_of(2, 4, 2).empty());
  EXPECT_TRUE(block_of(0, 3, 0).empty());
}

TEST(Block, TilesEveryExtentAndKnowsTheOwner) {
  for (std::int64_t parts = 1; parts <= 64; ++parts)
    for (std::int64_t extent = 0; extent <= 150; ++extent) {
      std::int64_t end = 0;
      for (std::int64_t part = 0; part < parts; ++part) {
        const Block block = block_of(extent, parts, part);
        ASSERT_EQ(block.begin, end);
        ASSERT_TRUE(block.size() == extent / parts || block.size() == extent / parts + 1);
        for (std::int64_t i = block.begin; i < block.end; ++i) ASSERT_EQ(owner_of(extent, parts, i), part);
        end = block.end;
      }
      ASSERT_EQ(end, extent);
    }
}

TEST(Block, IsExactBeyondThirtyTwoBits) {
  constexpr std::int64_t extent = (std::int64_t{1} << 40) + 3;
  EXPECT_EQ(block_of(extent, 7, 6).end, extent);
  EXPECT_EQ(owner_of(extent, 7, extent - 1), 6);
}

TEST(Block, Intersections) {
  EXPECT_EQ(intersection({2, 6}, {4, 9}), (Block{4, 6}));
  EXPECT_EQ(intersection({2, 6}, {0, 9}), (Block{2, 6}));
  EXPECT_TRUE(intersection({2, 6}, {6, 9}).empty());
  EXPECT_TRUE(intersection({6, 9}, {2, 4}).empty());
}

TEST(MirroredBlocks, Example) {
  const BlockPair pair = mirrored_blocks_of(12, 3, 1);
  EXPECT_EQ(pair.early, (Block{2, 4}));
  EXPECT_EQ(pair.late, (Block{8, 10}));
}

TEST(MirroredBlocks, TileAndShareTheTriangleEvenly) {
  for (std::int64_t parts = 1; parts <= 5; ++parts) {
    const std::int64_t extent = 2 * parts * 3;
    std::vector<int> owners(static_cast<std::size_t>(extent), 0);
    const auto area = [&](Block block) {  // pairs (i, j) with i in the block and j <= i
      std::int64_t sum = 0;
      for (std::int64_t i = block.begin; i < block.end; ++i) sum += i + 1;
      return sum;
    };
    for (std::int64_t part = 0; part < parts; ++part) {
      const auto [early, late] = mirrored_blocks_of(extent, parts, part);
      for (Block block : {early, late})
        for (std::int64_t i = block.begin; i < block.end; ++i) ++owners[static_cast<std::size_t>(i)];
      EXPECT_EQ(area(early) + area(late), extent * (extent + 1) / 2 / parts);
    }
    EXPECT_EQ(owners, std::vector<int>(owners.size(), 1));
  }
}

}  // namespace
}  // namespace moesaic
