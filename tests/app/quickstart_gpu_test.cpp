// The quick start's model learns as well in bf16 as in fp32: 200 steps of its deck, on the text of this repository's own
// sources and documents.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "moesaic/app/deck.hpp"
#include "moesaic/tensor/device.hpp"
#include "support/golden_run.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

class QuickStartOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (num_devices() == 0) GTEST_SKIP() << "no CUDA device (or driver) on this machine";
    write_text();
  }

  void write_text() const {
    std::vector<fs::path> files;
    for (const char* folder : {"docs", "include", "src"})
      for (const auto& entry : fs::recursive_directory_iterator(fs::path(MOESAIC_SOURCE_DIR) / folder))
        if (entry.is_regular_file()) files.push_back(entry.path());
    std::ranges::sort(files);
    std::ofstream text(text_path(), std::ios::binary);
    for (const fs::path& file : files) text << std::ifstream(file, std::ios::binary).rdbuf();
  }
  std::string text_path() const { return scratch.path() / "text"; }

  /// Loss on the validation text after 200 steps.
  double validation_loss(const std::string& precision, int seed) const {
    const std::string source = MOESAIC_SOURCE_DIR;
    const auto metrics = trained_metrics(read_deck(
        source + "/inputs/quickstart.ini",
        {"run.device=cuda", "run.device_memory=2e9", "train.precision=" + precision, fmt::format("run.seed={}", seed),
         "train.steps=200", "grid.expert=1", "train.micro_batch=8", "data.path=" + text_path(),
         "model.config=" + source + "/inputs/models/quickstart.json", "log.every=200",
         "run.directory=" + (scratch.path() / fmt::format("{}-{}", precision, seed)).string()}));
    return metrics.size() == 200 ? metrics[199]["validation_loss"].get<double>() : NAN;
  }

  ScratchFolder scratch{"quickstart-gpu"};
};

/// Two runs that differ in rounding alone end up to 0.02 apart, in one precision too; what a precision costs is the mean.
TEST_F(QuickStartOnGpu, ValidatesTheSameInBf16AsInFp32) {
  constexpr int seeds = 6;
  double half = 0, single = 0;
  for (int seed = 1; seed <= seeds; ++seed) {
    const double in_half = validation_loss("bf16", seed), in_single = validation_loss("fp32", seed);
    fmt::print("seed {}: validation loss in bf16 {:.4f}, in fp32 {:.4f}\n", seed, in_half, in_single);
    EXPECT_NE(in_half, in_single) << "both were of one precision";
    half += in_half / seeds;
    single += in_single / seeds;
  }
  EXPECT_LT(single, 3) << "it hardly learned";
  EXPECT_NEAR(half, single, 0.02);
}

}  // namespace
}  // namespace moesaic
