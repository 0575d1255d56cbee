// Ranks: 1 2
// A checkpoint of the CPU goes on on a GPU, and one of a GPU on the CPU, to the losses of the run that never stopped; on the
// GPU itself to its very bits.
#include <gtest/gtest.h>

#include <cmath>

#include "moesaic/checkpoint/store.hpp"
#include "moesaic/tensor/device.hpp"
#include "support/golden_run.hpp"

namespace moesaic {
namespace {

using Metrics = std::vector<nlohmann::json>;

class ResumeOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (num_devices() == 0) GTEST_SKIP() << "no CUDA device (or driver) on this machine";
    write_golden_rows(golden, rows());
  }
  std::filesystem::path rows() const { return scratch.path() / "rows.h5"; }

  /// 14 steps in fp32, saved after step 4.
  RunSettings settings(const std::string& name, DeviceChoice device) const {
    RunSettings run = golden_settings(golden, rows(), scratch.path() / name);
    run.device = device;
    run.device_memory = std::int64_t{1} << 30;
    run.precision = Precision::fp32;
    run.steps = 14;
    run.checkpoint_every = 4;
    run.keep = 9;
    return run;
  }
  /// Goes on from step 4 of `begun` on `device`.
  Metrics moved(const RunSettings& begun, const std::string& name, DeviceChoice device) const {
    RunSettings run = settings(name, device);
    run.resume = Resume::path;
    run.resume_path = CheckpointStore(begun.directory, 1).path_of(4);
    return trained_metrics(run);
  }
  static void expect_goes_on(const Metrics& actual, const Metrics& expected, double bound) {
    ASSERT_EQ(expected.size(), 14u);
    ASSERT_EQ(actual.size(), 10u);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_EQ(actual[i].at("step"), expected[i + 4].at("step"));
      const double loss = actual[i].at("loss").get<double>(), wanted = expected[i + 4].at("loss").get<double>();
      EXPECT_LE(std::abs(loss / wanted - 1), bound) << "step " << i + 5;
    }
  }

  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"resume-gpu"};
};

TEST_F(ResumeOnGpu, OfTheCpu) {
  const RunSettings begun = settings("cpu", DeviceChoice::cpu);
  const Metrics expected = trained_metrics(begun);
  expect_goes_on(moved(begun, "cpu-to-gpu", DeviceChoice::cuda), expected, 5e-6);
}

TEST_F(ResumeOnGpu, OnTheCpu) {
  const RunSettings begun = settings("gpu", DeviceChoice::cuda);
  const Metrics expected = trained_metrics(begun);
  expect_goes_on(moved(begun, "gpu-to-cpu", DeviceChoice::cpu), expected, 5e-6);
}

TEST_F(ResumeOnGpu, OfItselfToTheSameBits) {
  const RunSettings begun = settings("gpu", DeviceChoice::cuda);
  const Metrics expected = trained_metrics(begun);
  expect_goes_on(moved(begun, "gpu-to-gpu", DeviceChoice::cuda), expected, 0);
}

TEST_F(ResumeOnGpu, ACheckpointIsWhereAnotherRunBegins) {
  const RunSettings begun = settings("begun", DeviceChoice::cpu);
  trained_metrics(begun);
  const auto first_loss = [&](const std::string& name, DeviceChoice device) {
    RunSettings run = settings(name, device);
    run.init = CheckpointStore(begun.directory, 1).path_of(4);
    run.steps = 1;
    return trained_metrics(run).at(0).at("loss").get<double>();
  };
  const double wanted = first_loss("from-4-on-cpu", DeviceChoice::cpu);
  EXPECT_LE(std::abs(first_loss("from-4-on-gpu", DeviceChoice::cuda) / wanted - 1), 5e-6);
}

}  // namespace
}  // namespace moesaic
