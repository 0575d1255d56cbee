#include "moesaic/parallel/unit_layout.hpp"

#include <gtest/gtest.h>

#include "support/units.hpp"

namespace moesaic {
namespace {

ParameterSpec parameter(std::string name, Extents shape) { return {.name = std::move(name), .shape = shape}; }

/// Starts at 0, 16, 48 and 64: gaps behind the first two.
UnitSpec uneven_unit() {
  return dense_unit("uneven",
                    {parameter("a", {3}), parameter("b", {2, 13}), parameter("c", {1}), parameter("d", {7, 5, 3})});
}

/// Seven experts: uneven over any number of parts but one and seven.
UnitSpec seven_experts() { return expert_unit("experts", {parameter("up", {7, 6, 5}), parameter("down", {7, 5, 3})}); }

/// A block of a small language model: hidden 256, 8 and 4 heads of 32, 16 experts of width 128.
std::vector<UnitSpec> realistic_units() {
  return {dense_unit("block", {parameter("attention_norm", {256}), parameter("query_key_value", {512, 256}),
                               parameter("output", {256, 256}), parameter("feed_forward_norm", {256}),
                               parameter("router", {16, 256})}),
          expert_unit("experts", {parameter("gate_up", {16, 256, 256}), parameter("down", {16, 256, 128})})};
}

/// How often the pieces of all slices of all parts name each element of each parameter.
std::vector<std::vector<int>> times_owned(const UnitSpec& spec, int expert_parts, int shards) {
  std::vector<std::vector<int>> times;
  for (const ParameterSpec& each : spec.parameters) times.emplace_back(each.shape.size(), 0);
  for (int part = 0; part < expert_parts; ++part) {
    const UnitLayout layout(spec, {expert_parts, part, shards});
    for (int shard = 0; shard < shards; ++shard)
      for (const SlicePiece& piece : layout.pieces(shard))
        for (std::int64_t i = piece.elements.begin; i < piece.elements.end; ++i) ++times[piece.parameter][i];
  }
  return times;
}

void expect_tiled(const UnitSpec& spec, int expert_parts, int shards) {
  for (const auto& parameter : times_owned(spec, expert_parts, shards))
    EXPECT_EQ(parameter, std::vector<int>(parameter.size(), 1)) << expert_parts << " parts, " << shards << " shards";
}

TEST(UnitLayout, PiecesTileEveryParameter) {
  for (int shards = 1; shards <= 40; ++shards) expect_tiled(uneven_unit(), 1, shards);
}

TEST(UnitLayout, PiecesTileWithMoreShardsThanElements) { expect_tiled(uneven_unit(), 1, 1000); }

TEST(UnitLayout, PiecesTileTheExpertsOfAllParts) {
  for (int parts = 1; parts <= 7; ++parts)
    for (int shards = 1; shards <= 12; ++shards) expect_tiled(seven_experts(), parts, shards);
}

TEST(UnitLayout, ADenseUnitByHand) {
  const UnitSpec unit = dense_unit("unit", {parameter("a", {3}), parameter("b", {2, 10})});
  // a at 0, b at 16, end 36: a third is 12, rounded up 16.
  const UnitLayout layout(unit, {1, 0, 3});
  EXPECT_EQ(layout.slice(), 16);
  EXPECT_EQ(layout.whole(), 48);
  EXPECT_EQ(layout.pieces(0), (std::vector<SlicePiece>{{0, {0, 3}, 0}}));
  EXPECT_EQ(layout.pieces(1), (std::vector<SlicePiece>{{1, {0, 16}, 0}}));
  EXPECT_EQ(layout.pieces(2), (std::vector<SlicePiece>{{1, {16, 20}, 0}}));
}

TEST(UnitLayout, AnExpertUnitByHand) {
  const UnitSpec unit = expert_unit("unit", {parameter("e", {4, 5, 4})});
  // The second half holds experts 2 and 3: elements 40 to 80 of the whole tensor, 32 and 8 of them by slices of 32.
  const UnitLayout layout(unit, {2, 1, 2});
  EXPECT_EQ(layout.slice(), 32);
  EXPECT_EQ(layout.pieces(0), (std::vector<SlicePiece>{{0, {40, 72}, 0}}));
  EXPECT_EQ(layout.pieces(1), (std::vector<SlicePiece>{{0, {72, 80}, 0}}));
}

/// What a piece says and where the parameter's view looks are the same memory.
TEST(UnitLayout, ViewsAgreeWithPieces) {
  const UnitSpec spec = seven_experts();
  const UnitLayout layout(spec, {3, 1, 4});  // experts [3, 5)
  std::vector<float> whole(layout.whole());
  const ParameterViews views = layout.views(host_view(whole.data(), {layout.whole()}));
  EXPECT_EQ(views[0].extents(), (Extents{2, 6, 5}));
  EXPECT_EQ(views[1].extents(), (Extents{2, 5, 3}));
  for (int shard = 0; shard < 4; ++shard) {
    for (const SlicePiece& piece : layout.pieces(shard)) {
      const std::int64_t expert_size = views[piece.parameter].size() / 2;
      EXPECT_EQ(views[piece.parameter].data<float>() + (piece.elements.begin - 3 * expert_size),
                whole.data() + shard * layout.slice() + piece.at);
    }
  }
}

TEST(UnitLayout, ParametersStartAligned) {
  const UnitSpec spec = uneven_unit();
  const UnitLayout layout(spec, {1, 0, 3});
  std::vector<float> whole(layout.whole());
  for (const View& view : layout.views(host_view(whole.data(), {layout.whole()})))
    EXPECT_EQ((view.data<float>() - whole.data()) % UnitLayout::alignment, 0);
  EXPECT_EQ(layout.slice() % UnitLayout::alignment, 0);
}

TEST(UnitLayout, SlicesAreAtMostAnAlignmentLongerThanTheirShare) {
  const UnitSpec spec = uneven_unit();
  const std::int64_t end = 64 + 7 * 5 * 3;  // of the last parameter
  for (int shards = 1; shards <= 200; ++shards) {
    const std::int64_t share = (end + shards - 1) / shards;
    EXPECT_GE(UnitLayout(spec, {1, 0, shards}).slice(), share);
    EXPECT_LT(UnitLayout(spec, {1, 0, shards}).slice(), share + UnitLayout::alignment);
  }
}

TEST(UnitLayout, MemoryFallsWithTheRanks) {
  const auto elements = [](const UnitSpec& unit, int ranks, int expert) {
    if (unit.expert) return UnitLayout(unit, {expert, expert - 1, ranks / expert}).slice();
    return UnitLayout(unit, {1, 0, ranks}).slice();
  };
  for (int ranks = 1; ranks <= 64; ++ranks) {
    for (int expert : {1, 2, 4, 8, 16}) {
      if (ranks % expert != 0) continue;
      std::int64_t one = 0, here = 0;
      for (const UnitSpec& unit : realistic_units()) {
        one += elements(unit, 1, 1);
        here += elements(unit, ranks, expert);
      }
      EXPECT_LE(static_cast<double>(here), 1.05 / ranks * static_cast<double>(one)) << ranks << " ranks, " << expert;
    }
  }
}

}  // namespace
}  // namespace moesaic
