// A step on a GPU, once everything is warm: no memory is allocated, by us or by a library, and the host waits no more often
// than it has to. The step is Qwen3's, with the balancing loss, on two micro-batches.
#include <gtest/gtest.h>

#include "moesaic/tensor/device.hpp"
#include "support/cuda_calls.hpp"
#include "support/step_runner.hpp"

namespace moesaic {
namespace {

class SteadyStep : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (num_devices() == 0) GTEST_SKIP() << "no CUDA device (or driver) on this machine";
  }

  static RunSettings settings() {
    RunSettings run;
    run.config = MOESAIC_SOURCE_DIR "/inputs/models/quickstart.json";
    run.device = DeviceChoice::cuda;
    run.device_memory = std::int64_t{1} << 30;
    run.precision = GetParam();
    run.data = {.path = {},
                .format = DataFormat::synthetic,
                .sequence = 256,
                .shuffle = true,
                .separator = {},
                .validation = {}};
    run.steps = 10;
    run.global_batch = 4;
    run.micro_batch = 2;
    run.balance = Balance::auxiliary;
    run.auxiliary_coefficient = 0.01;
    return run;
  }

  static std::string listed(const std::vector<CudaCalls::Call>& calls) {
    std::string text;
    for (const auto& [name, from] : calls) text += name + " from\n" + from;
    return text;
  }
};

INSTANTIATE_TEST_SUITE_P(Precisions, SteadyStep, ::testing::Values(Precision::bf16, Precision::fp32));

TEST_P(SteadyStep, AllocatesNothingAndHardlyWaits) {
  StepRunner ranks(settings());
  for (int step = 0; step < 3; ++step) ranks.step();
  CudaCalls calls;
  ranks.step();
  EXPECT_GT(calls.launches, 100);  // they are noted
  EXPECT_TRUE(calls.allocations.empty()) << listed(calls.allocations);
  EXPECT_LE(calls.waits.size(), 1u) << listed(calls.waits);
}

}  // namespace
}  // namespace moesaic
