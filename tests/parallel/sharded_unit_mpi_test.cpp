#include "moesaic/parallel/sharded_unit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "moesaic/comm/mirror_communicator.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "support/units.hpp"

namespace moesaic {
namespace {

/// A value of any magnitude, so that sums round.
float odd_value(std::int64_t rank, int parameter, std::int64_t element) {
  return std::ldexp(std::sin(static_cast<float>(element * 7 + parameter + rank)),
                    static_cast<int>((element + rank) % 17));
}

/// This rank is one shard of all ranks, or one replica of all; the other group has one member.
class ShardedUnitTest : public ::testing::Test {
 protected:
  using Value = std::function<float(int parameter, std::int64_t element)>;

  ShardedUnit make_unit(ShardedUnit* tied = nullptr) {
    return ShardedUnit(UnitLayout(spec, {1, 0, size}), DType::f32, context, world, alone, tied);
  }
  ShardedUnit make_replica() {
    return ShardedUnit(UnitLayout(spec, {1, 0, 1}), DType::f32, context, alone, world, nullptr);
  }

  static void set_slice(const ShardedUnit& unit, View slice, const Value& value) {
    for (const SlicePiece& piece : unit.pieces())
      for (std::int64_t i = 0; i < piece.elements.size(); ++i)
        slice.data<float>()[piece.at + i] = value(piece.parameter, piece.elements.begin + i);
  }
  static void expect_slice(const ShardedUnit& unit, View slice, const Value& value) {
    for (const SlicePiece& piece : unit.pieces())
      for (std::int64_t i = 0; i < piece.elements.size(); ++i)
        ASSERT_EQ(slice.data<float>()[piece.at + i], value(piece.parameter, piece.elements.begin + i))
            << piece.parameter << ", " << piece.elements.begin + i;
  }
  static void add(const ParameterViews& views, const Value& value) {
    for (std::size_t p = 0; p < views.size(); ++p)
      for (std::int64_t i = 0; i < views[p].size(); ++i) views[p].data<float>()[i] += value(static_cast<int>(p), i);
  }
  /// A serial loop over the ranks.
  Value rank_order_sum() const {
    return [ranks = size](int p, std::int64_t i) {
      float sum = odd_value(0, p, i);
      for (int r = 1; r < ranks; ++r) sum += odd_value(r, p, i);
      return sum;
    };
  }
  Value odd() const {
    return [rank = rank](int p, std::int64_t i) { return odd_value(rank, p, i); };
  }
  static float place(int parameter, std::int64_t element) {
    return 1000.0f * static_cast<float>(parameter) + static_cast<float>(element);
  }

  Arena arena{host_memory()};
  LayerContext context{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32};
  MpiCommunicator world{MpiHandle::duplicate(MPI_COMM_WORLD), arena};
  MirrorCommunicator alone{1};
  int rank = world.rank(), size = world.size();
  UnitSpec spec =
      dense_unit("unit", {{.name = "a", .shape = {5}}, {.name = "b", .shape = {11, 9}}, {.name = "c", .shape = {2}}});
};

TEST_F(ShardedUnitTest, GatherGivesTheWholeOnEveryRank) {
  ShardedUnit unit = make_unit();
  set_slice(unit, unit.values(), place);
  unit.initiate_gather();
  unit.initiate_gather();  // on its way already: no second one
  const ParameterViews views = unit.complete_gather();
  ASSERT_EQ(views.size(), 3u);
  EXPECT_EQ(views[1].extents(), (Extents{11, 9}));
  for (int p = 0; p < 3; ++p)
    for (std::int64_t i = 0; i < views[p].size(); ++i) EXPECT_EQ(views[p].data<float>()[i], place(p, i));
}

TEST_F(ShardedUnitTest, GatherSeesValuesThatChanged) {
  ShardedUnit unit = make_unit();
  set_slice(unit, unit.values(), place);
  unit.complete_gather();
  unit.release();
  set_slice(unit, unit.values(), [](int, std::int64_t) { return 7.0f; });
  EXPECT_EQ(unit.complete_gather()[1].data<float>()[98], 7.0f);
}

/// The upper half of a float is the bfloat16 nearest to it where the lower half is zero.
float from_bf16(View values, std::int64_t element) {
  const std::uint32_t bits = std::uint32_t{static_cast<const std::uint16_t*>(values.raw())[element]} << 16;
  return std::bit_cast<float>(bits);
}

TEST_F(ShardedUnitTest, LayersOfAnotherTypeReadConvertedCopies) {
  context.type = DType::bf16;
  ShardedUnit sharded = make_unit(), whole(UnitLayout(spec, {1, 0, 1}), DType::f32, context, alone, world, nullptr);
  for (ShardedUnit* unit : {&sharded, &whole}) {
    for (const float value : {3.0f, 5.5f}) {  // exact in either type; the second must not show the first
      set_slice(*unit, unit->values(), [value](int p, std::int64_t) { return value + static_cast<float>(p); });
      unit->values_changed();
      const ParameterViews views = unit->complete_gather();
      EXPECT_EQ(views[1].dtype(), DType::bf16);
      for (std::int64_t i = 0; i < views[1].size(); ++i) ASSERT_EQ(from_bf16(views[1], i), value + 1);
      ASSERT_EQ(from_bf16(views[2], 1), value + 2);
      unit->release();
    }
    EXPECT_EQ(unit->values().dtype(), DType::f32);
    EXPECT_EQ(unit->gradients().dtype(), DType::f32);
  }
}

TEST_F(ShardedUnitTest, ACopyThatWasWrittenWithTheValuesIsKept) {
  context.type = DType::bf16;
  ShardedUnit unit = make_replica();
  ASSERT_FALSE(unit.copy().absent());
  set_slice(unit, unit.values(), place);
  EXPECT_EQ(from_bf16(unit.complete_gather()[1], 4), place(1, 4)) << "at first the gather makes it";
  context.ops->fill(context.on, 5, unit.copy());
  unit.copy_written();
  EXPECT_EQ(from_bf16(unit.complete_gather()[1], 4), 5.0f);
  unit.values_changed();
  EXPECT_EQ(from_bf16(unit.complete_gather()[1], 4), place(1, 4));
  EXPECT_TRUE(size == 1 || make_unit().copy().absent()) << "a sharded unit's copies are made as they are gathered";
}

TEST_F(ShardedUnitTest, SetValuesWritesTheSlice) {
  ShardedUnit unit = make_unit();
  unit.set_values([&](float* values) { std::fill_n(values, unit.layout().slice(), 4.0f); });
  EXPECT_EQ(unit.complete_gather()[0].data<float>()[4], 4.0f);
}

TEST_F(ShardedUnitTest, ReleaseFreesTheGatheredCopy) {
  ShardedUnit unit = make_unit();
  set_slice(unit, unit.values(), place);
  unit.initiate_gather();
  EXPECT_EQ(arena.used(Label::gathered) > 0, size > 1);
  unit.complete_gather();
  if (size > 1) {
    EXPECT_GE(arena.used(Label::gathered), unit.layout().whole() * 4);
  }
  unit.release();
  EXPECT_EQ(arena.used(Label::gathered), 0);
  unit.release();
  EXPECT_EQ(arena.used(Label::gathered), 0);
}

TEST_F(ShardedUnitTest, ReleaseCompletesAGatherNobodyWaitedFor) {
  ShardedUnit unit = make_unit();
  set_slice(unit, unit.values(), place);
  unit.initiate_gather();
  unit.release();
  EXPECT_EQ(arena.used(Label::gathered), 0);
}

TEST_F(ShardedUnitTest, ReduceSumsInRankOrder) {
  ShardedUnit unit = make_unit();
  unit.zero_gradients();
  add(unit.gradient_views(), odd());
  unit.initiate_reduce();
  unit.complete_reduce();
  unit.complete_reduce();
  expect_slice(unit, unit.gradients(), rank_order_sum());
  EXPECT_EQ(arena.used(Label::unreduced_gradients), 0);
  EXPECT_EQ(arena.used(Label::exchange), 0);
}

TEST_F(ShardedUnitTest, GradientsAccumulateOverReductions) {
  ShardedUnit unit = make_unit();
  unit.zero_gradients();
  for (int micro_batch = 1; micro_batch <= 3; ++micro_batch) {
    add(unit.gradient_views(), [&](int p, std::int64_t i) { return static_cast<float>(micro_batch) * place(p, i); });
    unit.initiate_reduce();
    unit.complete_reduce();
  }
  expect_slice(unit, unit.gradients(),
               [this](int p, std::int64_t i) { return static_cast<float>(6 * size) * place(p, i); });
}

TEST_F(ShardedUnitTest, GradientsAccumulateBeforeOneReduction) {
  ShardedUnit unit = make_unit();
  unit.zero_gradients();
  for (int micro_batch = 1; micro_batch <= 3; ++micro_batch)
    add(unit.gradient_views(), [&](int p, std::int64_t i) { return static_cast<float>(micro_batch) * place(p, i); });
  unit.initiate_reduce();
  unit.complete_reduce();
  expect_slice(unit, unit.gradients(),
               [this](int p, std::int64_t i) { return static_cast<float>(6 * size) * place(p, i); });
}

TEST_F(ShardedUnitTest, ZeroForgetsTheStepBefore) {
  ShardedUnit unit = make_unit();
  for (int step = 0; step < 2; ++step) {
    unit.zero_gradients();
    add(unit.gradient_views(), place);
    unit.initiate_reduce();
    unit.complete_reduce();
  }
  expect_slice(unit, unit.gradients(),
               [this](int p, std::int64_t i) { return static_cast<float>(size) * place(p, i); });
}

TEST_F(ShardedUnitTest, ProductsAreNotZeroedAndReplaceWhatTheyFind) {
  spec.parameters[1].product = true;
  ShardedUnit sharded = make_unit(), whole = make_replica();
  for (ShardedUnit* unit : {&sharded, &whole}) {
    const bool cut = unit == &sharded && size > 1;
    for (int step = 0; step < 2; ++step) {
      unit->zero_gradients();
      const ParameterViews views = unit->gradient_views();
      EXPECT_TRUE(unit->gradients_begin());
      for (const std::size_t added : {0, 2})
        for (std::int64_t i = 0; i < views[added].size(); ++i) EXPECT_EQ(views[added].data<float>()[i], 0.0f);
      for (std::int64_t i = 0; i < views[1].size(); ++i) views[1].data<float>()[i] = place(1, i);
      unit->gradient_views();
      EXPECT_FALSE(unit->gradients_begin()) << "asked for a second time";
      add(views, place);
      unit->initiate_reduce();
      unit->complete_reduce();
    }
    unit->gradient_views();
    EXPECT_EQ(unit->gradients_begin(), cut) << "after a reduction the whole gradient begins again, the slice does not";
    expect_slice(*unit, unit->gradients(), [&](int p, std::int64_t i) {
      return static_cast<float>((p == 1 ? 2 : 1) * (cut ? size : 1)) * place(p, i);
    });
  }
}

TEST_F(ShardedUnitTest, GradientsThatNobodyAddedToAreZero) {
  spec.parameters[1].product = true;
  ShardedUnit unit = make_replica();
  unit.zero_gradients();
  add(unit.gradient_views(), place);
  unit.zero_gradients();
  unit.reduce_replicas();
  expect_slice(unit, unit.gradients(), [](int, std::int64_t) { return 0.0f; });
}

TEST_F(ShardedUnitTest, OneShardIsTheWholeWithoutCopies) {
  ShardedUnit unit = make_replica();
  const std::int64_t used = arena.used();
  EXPECT_EQ(unit.complete_gather()[0].raw(), unit.values().raw());
  EXPECT_EQ(unit.gradient_views()[0].raw(), unit.gradients().raw());
  unit.initiate_reduce();
  unit.complete_reduce();
  EXPECT_EQ(arena.used(), used);
  EXPECT_EQ(arena.peak(), used);
}

TEST_F(ShardedUnitTest, ReplicasSumInRankOrder) {
  ShardedUnit unit = make_replica();
  unit.zero_gradients();
  add(unit.gradient_views(), odd());
  unit.reduce_replicas();
  expect_slice(unit, unit.gradients(), rank_order_sum());
}

TEST_F(ShardedUnitTest, ATiedUnitSharesValuesAndKeepsItsOwnGradients) {
  ShardedUnit first = make_unit();
  const std::int64_t parameters = arena.used(Label::parameters);
  ShardedUnit second = make_unit(&first);
  EXPECT_EQ(arena.used(Label::parameters), parameters);
  EXPECT_EQ(second.values().raw(), first.values().raw());
  set_slice(first, first.values(), place);
  EXPECT_EQ(second.complete_gather()[1].data<float>()[98], place(1, 98));

  for (ShardedUnit* unit : {&first, &second}) {
    unit->zero_gradients();
    add(unit->gradient_views(), unit == &first ? odd() : Value(place));
    unit->initiate_reduce();
    unit->complete_reduce();
  }
  expect_slice(first, first.gradients(), rank_order_sum());
  second.add_gradients_to_tied();
  expect_slice(first, first.gradients(), [this](int p, std::int64_t i) {
    return rank_order_sum()(p, i) + static_cast<float>(size) * place(p, i);
  });
}

TEST_F(ShardedUnitTest, EverythingIsGivenBack) {
  {
    ShardedUnit unit = make_unit();
    set_slice(unit, unit.values(), place);
    unit.complete_gather();
    add(unit.gradient_views(), place);
  }
  EXPECT_EQ(arena.used(), 0);
}

}  // namespace
}  // namespace moesaic
