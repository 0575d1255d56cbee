/// FullySharded lets exchange and computation overlap; a loop that waits at once fails the same checks.
#include <gtest/gtest.h>

#include "support/overlap_trace.hpp"
#include "support/stub_block.hpp"
#include "support/units.hpp"

namespace moesaic {
namespace {

constexpr int ranks = 4;
constexpr int num_blocks = 3;

class Overlap : public ::testing::Test {
 protected:
  Overlap() {
    for (int b = 0; b < num_blocks; ++b) {
      const UnitSpec unit = dense_unit(std::to_string(b), {{.name = "weight", .shape = {64 * (b + 1)}}});
      blocks.push_back(std::make_unique<StubBlock>(std::vector<UnitSpec>{unit}, [this, b](const std::string& what) {
        recording.compute(what + " " + std::to_string(b));
      }));
    }
    sharding =
        std::make_unique<FullySharded>(blocks, context, ProcessGrid::make({.shard = ranks}, ranks), 0, communicators);
    sharding->zero_gradients();
  }

  /// Forward, then backward, as the training step does; or the same waiting for each exchange where it starts.
  void forward_backward(bool wait_at_once) {
    const int last = num_blocks - 1;
    std::vector<std::unique_ptr<BlockState>> states(num_blocks);
    for (int b = 0; b <= last; ++b) {
      const BlockViews weights = sharding->gather(b, wait_at_once ? -1 : b < last ? b + 1 : b - 1);
      blocks[b]->forward(context, weights, {}, {}, states[b]);
      if (b < last) sharding->release(b);
    }
    for (int b = last; b >= 0; --b) {
      const BlockViews weights = sharding->gather(b, wait_at_once ? -1 : b - 1);
      blocks[b]->backward_input(context, weights, {}, *states[b], {});
      sharding->release(b);
      blocks[b]->backward_weight(context, {}, *states[b], sharding->gradients(b));
      sharding->reduce(b);
      if (wait_at_once) sharding->complete_reductions();
    }
    sharding->complete_reductions();
  }

  Trace trace() const { return trace_of(recording, *sharding, ranks); }

  /// The gather of a block starts before the one before it computes, its reduction before the next backward.
  bool overlaps() const {
    const Trace forward = trace(), backward = trace_from(forward, "forward 2");
    return comes_before(forward, "gather 1", "forward 0") && comes_before(forward, "gather 2", "forward 1") &&
           comes_before(trace_from(forward, "forward 1"), "gather 1", "backward 2") &&
           comes_before(backward, "gather 0", "backward 1") && comes_before(forward, "backward 1", "reduced 2") &&
           comes_before(forward, "reduce 2", "backward 1") && comes_before(forward, "backward 0", "reduced 1") &&
           comes_before(forward, "reduce 1", "backward 0");
  }

  Recording recording;
  Arena arena{host_memory()};
  LayerContext context{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32};
  Communicators communicators = mirrored_communicators(ranks, recording);
  std::vector<std::unique_ptr<ModelBlock>> blocks;
  std::unique_ptr<FullySharded> sharding;
};

TEST_F(Overlap, TheOrderOfAStep) {
  forward_backward(false);
  EXPECT_EQ(trace(), (Trace{"gather 0",   "gather 1",   "gathered 0", "forward 0",               //
                            "gather 2",   "gathered 1", "forward 1",                             //
                            "gather 1",   "gathered 2", "forward 2",                             //
                            "backward 2", "reduce 2",                                            //
                            "gather 0",   "gathered 1", "backward 1", "reduce 1",  "reduced 2",  //
                            "gathered 0", "backward 0", "reduce 0",   "reduced 1", "reduced 0"}));
  EXPECT_TRUE(overlaps());
}

/// A stage of one block, whose next micro-batch follows at once.
TEST_F(Overlap, NothingIsAddedToAGradientThatIsOnItsWay) {
  sharding->gradients(1);
  sharding->reduce(1);
  sharding->gradients(1);
  EXPECT_EQ(trace(), (Trace{"reduce 1", "reduced 1"}));
}

TEST_F(Overlap, OnlyTheFirstGatherAndTheLastReductionShow) {
  // Six computations of 10; of eight exchanges of 4 all but two hide behind them.
  forward_backward(false);
  const SimulatedTimes times = simulate(recording, {.compute = 10, .latency = 4});
  EXPECT_EQ(times.sum, 6 * 10 + 8 * 4);
  EXPECT_EQ(times.elapsed, 6 * 10 + 2 * 4);
}

TEST_F(Overlap, AnExchangeLongerThanABlockHidesInPart) {
  // Latency 15, one exchange after the other: gathers 0, 1, 2 arrive at 15, 30, 45, so forwards of 10 end at 25, 40, 55;
  // gather 1 is here again at 60, backward 2 ends at 65. Its reduction takes until 80, gather 0 until 95, reduction 1
  // until 110. Backward 1 ends at 75; backward 0 waits for gather 0 and ends at 105; its reduction arrives at 125.
  forward_backward(false);
  EXPECT_EQ(simulate(recording, {.compute = 10, .latency = 15}).elapsed, 125);
}

TEST_F(Overlap, ALoopThatWaitsAtOnceFailsTheseChecks) {
  forward_backward(true);
  EXPECT_FALSE(overlaps());
  const SimulatedTimes times = simulate(recording, {.compute = 10, .latency = 4});
  EXPECT_EQ(times.elapsed, times.sum);
}

TEST_F(Overlap, MemoryOfTwoUnitsAtMost) {
  arena.reset_peaks();
  forward_backward(false);
  EXPECT_EQ(sharding->largest_gathered_bytes(), 4 * 192);
  EXPECT_EQ(arena.peak(Label::gathered), 4 * 192 + 4 * 128);  // blocks 2 and 1
  EXPECT_EQ(arena.used(Label::gathered), 0);
  EXPECT_EQ(arena.used(Label::unreduced_gradients), 0);
}

}  // namespace
}  // namespace moesaic
