// Ranks: 1 2
// The same on a GPU, whose receive buffers never grow: a step that overflows them is taken again with smaller micro-batches,
// to the bits of a run with those; single sequences are carried in rounds. A rank alone receives nothing.
#include "moesaic/tensor/device.hpp"
#include "support/receive_bound_run.hpp"

namespace moesaic {
namespace {

/// Parameter: of weights and activations.
class ReceiveBoundOnGpu : public ReceiveBoundTest, public ::testing::WithParamInterface<Precision> {
 protected:
  void SetUp() override {
    if (num_devices() == 0) GTEST_SKIP() << "no CUDA device (or driver) on this machine";
  }

  RunSettings on_gpu(const Case& one, std::int64_t micro_batch, const std::string& directory) const {
    RunSettings run = settings(one, micro_batch, directory);
    run.device = DeviceChoice::cuda;
    run.device_memory = std::int64_t{1} << 30;
    run.precision = GetParam();
    return run;
  }
  bool alone() const { return size == 1; }
  /// Of a gradient norm, whose sums were taken in other parts.
  double rounding() const { return GetParam() == Precision::bf16 ? 2e-2 : 5e-5; }
};

INSTANTIATE_TEST_SUITE_P(Precisions, ReceiveBoundOnGpu, ::testing::Values(Precision::bf16, Precision::fp32));

/// 8 sequences come where 4 bound are held.
TEST_P(ReceiveBoundOnGpu, TakesAStepAgainWithSmallerMicroBatches) {
  if (alone()) GTEST_SKIP() << "needs two ranks";
  for (const Recompute recompute : {Recompute::none, Recompute::block})
    for (const double bound : {1.0, 1.5}) {
      SCOPED_TRACE(fmt::format("recompute {} bound {}", static_cast<int>(recompute), bound));
      const std::string name = fmt::format("{}-{}", static_cast<int>(recompute), bound);
      const Case one{.recompute = recompute};
      expect_repeated_steps(on_gpu(one, rows_of_a_rank, name), on_gpu(one, 2, name + "-small"), bound, size);
    }
}

TEST_P(ReceiveBoundOnGpu, CarriesSingleSequencesInRounds) {
  if (alone()) GTEST_SKIP() << "needs two ranks";
  expect_rounds(on_gpu({}, 1, "free"), on_gpu({}, 1, "rounds"), size, rounding() / 10, rounding());
}

TEST_P(ReceiveBoundOnGpu, IsSilentWhereNothingOverflows) {
  const auto expected = metrics(on_gpu({}, 2, "free"), 0), found = metrics(on_gpu({}, 2, "wide"), size);
  ASSERT_EQ(found.size(), 3u);
  ASSERT_EQ(expected.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(found[i]["grad_norm"], expected[i]["grad_norm"]);
  EXPECT_TRUE(overflows("wide").empty());
}

}  // namespace
}  // namespace moesaic
