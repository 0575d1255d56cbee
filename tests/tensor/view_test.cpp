#include "moesaic/tensor/view.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace moesaic {
namespace {

/// 0, 1, 2, ... so that an element's value is its offset.
std::vector<float> counted(std::int64_t size) {
  std::vector<float> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

float first(ConstView view) { return *view.data<float>(); }

TEST(Extents, CountElements) {
  EXPECT_EQ(Extents({2, 3, 4}).size(), 24);
  EXPECT_EQ(Extents({2, 0}).size(), 0);
  EXPECT_EQ(Extents().size(), 1);
  EXPECT_EQ(Extents({2, 3}).rank(), 2);
  EXPECT_EQ(Extents({2, 3}), Extents({2, 3}));
  EXPECT_NE(Extents({2, 3}), Extents({2, 3, 1}));
}

TEST(View, IsRowMajor) {
  auto values = counted(24);
  const View view = host_view(values.data(), {2, 3, 4});
  EXPECT_EQ(view.strides(), Extents({12, 4, 1}));
  EXPECT_EQ(view.bytes(), 96);
  EXPECT_TRUE(view.contiguous());
  EXPECT_FALSE(view.empty());
  EXPECT_EQ(view.dtype(), DType::f32);
}

TEST(View, AbsentAndEmptyDiffer) {
  auto values = counted(1);
  EXPECT_TRUE(View().absent());
  EXPECT_TRUE(View().empty());
  const View none = host_view(values.data(), {0, 4});
  EXPECT_FALSE(none.absent());
  EXPECT_TRUE(none.empty());
  EXPECT_TRUE(none.contiguous());
}

TEST(View, SlicesShareMemory) {
  auto values = counted(24);
  const View view = host_view(values.data(), {2, 3, 4});
  const View row = view.rows(1, 2);
  EXPECT_EQ(first(row), 12.0f);
  EXPECT_EQ(row.extents(), Extents({1, 3, 4}));
  EXPECT_TRUE(row.contiguous());

  const View columns = view.slice(2, 1, 3);
  EXPECT_EQ(first(columns), 1.0f);
  EXPECT_EQ(columns.extents(), Extents({2, 3, 2}));
  EXPECT_EQ(columns.strides(), Extents({12, 4, 1}));
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(first(columns.slice(1, 2, 3).rows(1, 2)), 21.0f);  // element [1, 2, 1]

  *columns.data<float>() = -1.0f;
  EXPECT_EQ(values[1], -1.0f);
}

TEST(View, EmptySlicesAreLegalAtBothEnds) {
  auto values = counted(6);
  const View view = host_view(values.data(), {2, 3});
  EXPECT_TRUE(view.rows(0, 0).empty());
  EXPECT_TRUE(view.rows(2, 2).empty());
}

TEST(View, StridesOfExtentOneDoNotMatter) {
  auto values = counted(12);
  const View row = host_view(values.data(), {3, 4}).rows(1, 2).slice(1, 1, 3);
  EXPECT_EQ(row.strides(), Extents({4, 1}));
  EXPECT_TRUE(row.contiguous());
}

TEST(View, ReshapesContiguousElements) {
  auto values = counted(24);
  const View view = host_view(values.data(), {4, 6}).rows(1, 3).reshape({3, 4});
  EXPECT_EQ(first(view), 6.0f);
  EXPECT_EQ(view.strides(), Extents({4, 1}));
}

TEST(View, SplitLastWorksOnStridedViews) {
  auto values = counted(24);
  // [2, 12] -> columns 4..12 -> two heads of width 4
  const View heads = host_view(values.data(), {2, 12}).slice(1, 4, 12).split_last(2, 4);
  EXPECT_EQ(heads.extents(), Extents({2, 2, 4}));
  EXPECT_EQ(heads.strides(), Extents({12, 4, 1}));
  EXPECT_EQ(first(heads.rows(1, 2).slice(1, 1, 2)), 20.0f);  // row 1, column 8
}

TEST(View, SplitFirstWorksOnStridedViews) {
  auto values = counted(24);
  // [6, 4] -> columns 1..3 -> three sequences of length 2
  const View sequences = host_view(values.data(), {6, 4}).slice(1, 1, 3).split_first(3, 2);
  EXPECT_EQ(sequences.extents(), Extents({3, 2, 2}));
  EXPECT_EQ(sequences.strides(), Extents({8, 4, 1}));
  EXPECT_EQ(first(sequences.rows(2, 3).slice(1, 1, 2)), 21.0f);  // row 5, column 1
}

TEST(View, ConvertsToConst) {
  auto values = counted(4);
  const View view = host_view(values.data(), {2, 2});
  const ConstView constant = view;
  EXPECT_EQ(constant.raw(), view.raw());
  EXPECT_EQ(constant.strides(), view.strides());
}

}  // namespace
}  // namespace moesaic
