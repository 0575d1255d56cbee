#include "moesaic/tensor/arena.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace moesaic {
namespace {

constexpr std::int64_t piece = 256;

/// Hands out neighbouring halves of one region, as a system may, and notes what comes back.
class NeighbouringBlocks final : public MemorySource {
 public:
  explicit NeighbouringBlocks(int& held) : held_(held) {}
  DeviceKind device() const override { return DeviceKind::cpu; }
  void* acquire(std::int64_t bytes) override {
    if (next_ + bytes > size) throw RunError("full");
    ++held_;
    return region_.get() + std::exchange(next_, next_ + bytes);
  }
  void release(void*, std::int64_t) noexcept override { --held_; }

 private:
  static constexpr std::int64_t size = std::int64_t{256} << 20;
  struct Free {
    void operator()(char* region) const { std::free(region); }
  };
  std::unique_ptr<char, Free> region_{static_cast<char*>(std::aligned_alloc(256, size))};
  std::int64_t next_ = 0;
  int& held_;
};

/// Notes what is asked to be there, and has `available` bytes of it.
class MemoryOnDemand final : public MemorySource {
 public:
  MemoryOnDemand(std::vector<std::int64_t>& committed, std::int64_t available)
      : committed_(committed), available_(available) {}
  DeviceKind device() const override { return DeviceKind::cpu; }
  void* acquire(std::int64_t bytes) override { return memory_->acquire(bytes); }
  void commit(void*, std::int64_t bytes) override {
    if (bytes > available_) throw RunError("no more");
    committed_.push_back(bytes);
  }
  void release(void* block, std::int64_t bytes) noexcept override { memory_->release(block, bytes); }

 private:
  std::unique_ptr<MemorySource> memory_ = host_memory();
  std::vector<std::int64_t>& committed_;
  std::int64_t available_;
};

std::int64_t offset(const Buffer& buffer, const Buffer& base) {
  return static_cast<char*>(buffer.data()) - static_cast<char*>(base.data());
}

TEST(Arena, AlignsAndCountsInWholePieces) {
  Arena arena(host_memory(), 16 * piece, false);
  const Buffer one = arena.allocate(1, Label::batch), two = arena.allocate(257, Label::batch);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(one.data()) % 256, 0u);
  EXPECT_EQ(offset(two, one), piece);
  EXPECT_EQ(one.bytes(), 1);
  EXPECT_EQ(arena.used(Label::batch), 3 * piece);
  EXPECT_EQ(arena.used(), 3 * piece);
  EXPECT_EQ(arena.used(Label::exchange), 0);
}

TEST(Arena, TakesTheBestFitAndOfEqualOnesTheFirst) {
  Arena arena(host_memory(), 16 * piece, false);
  const Buffer base = arena.allocate(piece, Label::workspace);
  Buffer large = arena.allocate(3 * piece, Label::workspace);  // 1..4
  const Buffer wall = arena.allocate(piece, Label::workspace);
  Buffer small = arena.allocate(2 * piece, Label::workspace);  // 5..7
  const Buffer wall2 = arena.allocate(piece, Label::workspace);
  Buffer again = arena.allocate(2 * piece, Label::workspace);  // 8..10
  const Buffer wall3 = arena.allocate(piece, Label::workspace);
  large = {};
  again = {};
  small = {};
  const Buffer fit = arena.allocate(2 * piece, Label::workspace);
  EXPECT_EQ(offset(fit, base), 5 * piece);
  const Buffer bigger = arena.allocate(3 * piece, Label::workspace);
  EXPECT_EQ(offset(bigger, base), piece);
}

TEST(Arena, MergesFreedNeighboursInAnyOrder) {
  std::array<int, 3> order{0, 1, 2};
  do {
    Arena arena(host_memory(), 3 * piece, false);
    std::array<Buffer, 3> buffers;
    for (Buffer& buffer : buffers) buffer = arena.allocate(piece, Label::activations);
    EXPECT_THROW(arena.allocate(1, Label::activations), RunError);
    for (int i : order) buffers[static_cast<std::size_t>(i)] = {};
    EXPECT_EQ(arena.used(), 0);
    EXPECT_NO_THROW(arena.allocate(3 * piece, Label::activations));
  } while (std::ranges::next_permutation(order).found);
}

TEST(Arena, NeverMergesAcrossBlocks) {
  int held = 0;
  {
    constexpr std::int64_t block = std::int64_t{64} << 20;
    Arena arena(std::make_unique<NeighbouringBlocks>(held), block);
    Buffer first = arena.allocate(block, Label::gathered), second = arena.allocate(block, Label::gathered);
    EXPECT_EQ(offset(second, first), block);
    EXPECT_EQ(held, 2);
    first = {};
    second = {};
    const Buffer both = arena.allocate(2 * block, Label::gathered);  // needs a block of its own
    EXPECT_EQ(held, 3);
  }
  EXPECT_EQ(held, 0);
}

TEST(Arena, GrowsWhenAllowed) {
  Arena arena(host_memory());
  const Buffer large = arena.allocate(std::int64_t{100} << 20, Label::parameters);
  std::memset(large.data(), 1, static_cast<std::size_t>(large.bytes()));
  const Buffer small = arena.allocate(10, Label::gradients);
  EXPECT_NE(small.data(), nullptr);
  EXPECT_EQ(arena.used(Label::parameters), std::int64_t{100} << 20);
}

TEST(Arena, RecordsPeaks) {
  Arena arena(host_memory(), 16 * piece, false);
  Buffer activations = arena.allocate(4 * piece, Label::activations);
  activations = {};
  const Buffer gathered = arena.allocate(3 * piece, Label::gathered);
  EXPECT_EQ(arena.peak(Label::activations), 4 * piece);
  EXPECT_EQ(arena.peak(Label::gathered), 3 * piece);
  EXPECT_EQ(arena.peak(), 4 * piece);  // the two never lived together
  arena.reset_peaks();
  EXPECT_EQ(arena.peak(Label::activations), 0);
  EXPECT_EQ(arena.peak(), 3 * piece);
}

TEST(Arena, RecordsWhatThePeakWasMadeOf) {
  Arena arena(host_memory(), 16 * piece, false);
  const Buffer gathered = arena.allocate(1 * piece, Label::gathered);
  Buffer activations = arena.allocate(4 * piece, Label::activations);
  activations = {};
  const Buffer exchange = arena.allocate(2 * piece, Label::exchange);
  EXPECT_EQ(arena.at_peak(Label::gathered), piece);
  EXPECT_EQ(arena.at_peak(Label::activations), 4 * piece);
  EXPECT_EQ(arena.at_peak(Label::exchange), 0);  // came later
}

TEST(Arena, ReachesAsFarAsGapsMakeIt) {
  Arena arena(host_memory(), 16 * piece, false);
  Buffer first = arena.allocate(2 * piece, Label::activations);
  const Buffer second = arena.allocate(piece, Label::activations);
  EXPECT_EQ(arena.reach(), 3 * piece);
  first = {};
  const Buffer larger = arena.allocate(3 * piece, Label::activations);  // the gap of two is too small
  EXPECT_EQ(arena.reach(), 6 * piece);
  EXPECT_EQ(arena.peak(), 4 * piece);
}

TEST(Arena, MemoryIsCommittedBeforeItIsReached) {
  std::vector<std::int64_t> committed;
  Arena arena(std::make_unique<MemoryOnDemand>(committed, 6 * piece), 16 * piece, false);
  Buffer first = arena.allocate(2 * piece, Label::activations);
  const Buffer second = arena.allocate(piece, Label::activations);
  first = {};
  first = arena.allocate(2 * piece, Label::activations);  // the same again: nothing new
  const Buffer third = arena.allocate(3 * piece, Label::activations);
  EXPECT_EQ(committed, (std::vector<std::int64_t>{2 * piece, 3 * piece, 6 * piece}));
  EXPECT_THROW(arena.allocate(piece, Label::activations), RunError);
  EXPECT_EQ(arena.used(), 6 * piece) << "what was refused is not counted";
  first = {};
  EXPECT_EQ(arena.allocate(2 * piece, Label::activations).bytes(), 2 * piece) << "and nothing is lost";
}

TEST(Arena, RefusalQuotesTheFigures) {
  Arena arena(host_memory(), 8 * piece, false);
  const Buffer moments = arena.allocate(3 * piece, Label::moments);
  const Buffer parameters = arena.allocate(4 * piece, Label::parameters);
  try {
    arena.allocate(2 * piece, Label::activations);
    FAIL() << "nothing was thrown";
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(),
                 "no room for 512 B of activations: the arena holds 2.00 KiB, 1.75 KiB are used, the largest free "
                 "piece "
                 "is 256 B (largest uses: parameters 1.00 KiB, moments 768 B); use a smaller train.micro_batch, "
                 "recompute more, or more ranks");
  }
  EXPECT_EQ(arena.used(), 7 * piece);
  EXPECT_EQ(arena.peak(), 7 * piece);
}

TEST(Arena, NoBytesAreLegal) {
  Arena arena(host_memory(), 0, false);
  const Tensor none = arena.tensor(DType::f32, {0, 4}, Label::exchange);
  EXPECT_FALSE(none.absent());
  EXPECT_TRUE(none.view().empty());
  EXPECT_EQ(arena.peak(), 0);
}

TEST(Arena, MovedBuffersReturnOnce) {
  Arena arena(host_memory(), 4 * piece, false);
  Buffer one = arena.allocate(piece, Label::workspace);
  Buffer two = std::move(one);
  EXPECT_EQ(arena.used(), piece);
  two = arena.allocate(2 * piece, Label::workspace);
  EXPECT_EQ(arena.used(), 2 * piece);
  Tensor tensor = arena.tensor(DType::bf16, {2, 3}, Label::batch);
  EXPECT_EQ(tensor.view().bytes(), 12);
  tensor.reset();
  EXPECT_EQ(arena.used(Label::batch), 0);
}

TEST(Arena, TheSameCallsGiveTheSameOffsets) {
  const auto offsets = [] {
    Arena arena(host_memory(), 64 * piece, false);
    const Buffer base = arena.allocate(1, Label::workspace);
    std::vector<Buffer> live(7);
    std::vector<std::int64_t> seen;
    for (std::size_t i = 0; i < 200; ++i) {
      live[i % 7] = {};
      live[i % 7] = arena.allocate(static_cast<std::int64_t>(i * 37 % 5) * 300 + 1, Label::workspace);
      seen.push_back(offset(live[i % 7], base));
    }
    return seen;
  };
  EXPECT_EQ(offsets(), offsets());
}

TEST(Arena, EveryLabelHasItsName) {
  EXPECT_EQ(name_of(Label::parameters), "parameters");
  EXPECT_EQ(name_of(Label::unreduced_gradients), "unreduced_gradients");
  EXPECT_EQ(name_of(static_cast<Label>(num_labels - 1)), "batch");
}

TEST(HostMemory, RefusalNamesTheFigure) {
  try {
    host_memory()->acquire(std::int64_t{1} << 60);
    FAIL() << "nothing was thrown";
  } catch (const RunError& error) {
    EXPECT_NE(std::string(error.what()).find("1.00 EiB of host memory"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace moesaic
