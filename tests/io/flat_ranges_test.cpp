#include "moesaic/io/flat_ranges.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

/// Flat indices of the elements of `slab`, in row-major order.
void append_indices(const Shape& shape, const Slab& slab, std::size_t dimension, std::int64_t base,
                    std::vector<std::int64_t>& indices) {
  for (std::int64_t i = slab.start[dimension]; i < slab.start[dimension] + slab.count[dimension]; ++i) {
    const std::int64_t index = base * shape[dimension] + i;
    if (dimension + 1 == shape.size()) {
      indices.push_back(index);
    } else {
      append_indices(shape, slab, dimension + 1, index, indices);
    }
  }
}

TEST(FlatRanges, SlabsOfTheExample) {
  const std::vector<Slab> expected{{{0, 1}, {1, 2}}, {{1, 0}, {1, 3}}, {{2, 0}, {1, 2}}};
  EXPECT_EQ(slabs_of({3, 3}, {1, 8}), expected);
  EXPECT_EQ(slabs_of({3, 3}, {3, 9}), (std::vector<Slab>{{{1, 0}, {2, 3}}}));
  EXPECT_EQ(slabs_of({3, 3}, {4, 5}), (std::vector<Slab>{{{1, 1}, {1, 1}}}));
  EXPECT_TRUE(slabs_of({3, 3}, {4, 4}).empty());
  EXPECT_TRUE(slabs_of({3, 0}, {0, 0}).empty());
}

TEST(FlatRanges, SlabsOfEveryRangeCoverItInOrder) {
  for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 3, 4}, Shape{2, 1, 3, 2}, Shape{1, 6, 1}}) {
    const std::int64_t size = *element_count(shape);
    for (std::int64_t begin = 0; begin <= size; ++begin) {
      for (std::int64_t end = begin; end <= size; ++end) {
        std::vector<std::int64_t> indices, expected;
        const auto slabs = slabs_of(shape, {begin, end});
        for (const Slab& slab : slabs) append_indices(shape, slab, 0, 0, indices);
        for (std::int64_t i = begin; i < end; ++i) expected.push_back(i);
        ASSERT_EQ(indices, expected) << to_text(shape) << " " << begin << " " << end;
        ASSERT_LE(slabs.size(), 2 * shape.size() - 1);
      }
    }
  }
}

TEST(FlatRanges, PartsCountAlongTheRanges) {
  const std::vector<Block> ranges{{0, 2}, {10, 20}};
  EXPECT_EQ(total_size(ranges), 12);
  EXPECT_EQ(part_of(ranges, {1, 4}), (std::vector<Block>{{1, 2}, {10, 12}}));
  EXPECT_EQ(part_of(ranges, {2, 12}), (std::vector<Block>{{10, 20}}));
  EXPECT_TRUE(part_of(ranges, {12, 12}).empty());
}

}  // namespace
}  // namespace moesaic
