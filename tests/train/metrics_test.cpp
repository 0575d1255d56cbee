// What a line of metrics holds, and what a resumed run keeps.
#include "moesaic/train/metrics.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <limits>
#include <sstream>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

std::string content_of(const std::filesystem::path& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

StepMetrics metrics_at(std::int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 2.5;
  metrics.seconds = 0.25;
  return metrics;
}

TEST(Metrics, LineHoldsTheKeysInOrder) {
  const StepMetrics metrics{.step = 20,
                            .loss = 2.5,
                            .auxiliary_loss = 1.0625,
                            .prediction_loss = 4.5,
                            .validation_loss = 3,
                            .grad_norm = 0.1,
                            .lr = 1e-5,
                            .tokens = 4096,
                            .seconds = 0.5,
                            .tokens_per_second_per_rank = 1024,
                            .tflops_per_rank = 0.75,
                            .expert_load = 1.25,
                            .memory_peak_bytes = 1 << 30,
                            .checkpoint = std::nullopt};
  EXPECT_EQ(
      json_line(metrics),
      R"({"step": 20, "loss": 2.5, "auxiliary_loss": 1.0625, "prediction_loss": 4.5, "validation_loss": 3, )"
      R"("grad_norm": 0.1, "lr": 1e-05, "tokens": 4096, "seconds": 0.5, "tokens_per_second_per_rank": 1024, "tflops_per_rank": 0.75, )"
      R"("expert_load": 1.25, "memory_peak_bytes": 1073741824})");
}

TEST(Metrics, ValidationLossOnlyWhenValidated) {
  EXPECT_EQ(json_line(metrics_at(1)).find("prediction_loss"), std::string::npos);
  EXPECT_EQ(json_line(metrics_at(1)).find("validation_loss"), std::string::npos);
}

TEST(Metrics, ACheckpointIsInTheLineOfTheStepBehindIt) {
  StepMetrics metrics = metrics_at(1);
  EXPECT_EQ(json_line(metrics).find("checkpoint"), std::string::npos);
  metrics.checkpoint = {.stall_seconds = 0.25, .bytes_per_second = 1e9, .file_system_share = 0.5};
  EXPECT_NE(
      json_line(metrics).find(R"("memory_peak_bytes": 0, "checkpoint_stall_seconds": 0.25, )"
                              R"("checkpoint_bytes_per_second": 1000000000, "checkpoint_file_system_share": 0.5})"),
      std::string::npos)
      << json_line(metrics);
}

TEST(Metrics, DoublesReadBackAsTheSameBits) {
  for (const double loss : {0.1 + 0.2, 1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0}) {
    StepMetrics metrics = metrics_at(1);
    metrics.loss = loss;
    const double back = nlohmann::json::parse(json_line(metrics)).at("loss").get<double>();
    EXPECT_EQ(back, loss);
  }
}

TEST(Metrics, NonFiniteNumbersAreNull) {
  StepMetrics metrics = metrics_at(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.grad_norm = std::numeric_limits<double>::infinity();
  metrics.validation_loss = -std::numeric_limits<double>::infinity();
  const auto line = nlohmann::json::parse(json_line(metrics));
  EXPECT_TRUE(line.at("loss").is_null());
  EXPECT_TRUE(line.at("grad_norm").is_null());
  EXPECT_TRUE(line.at("validation_loss").is_null());
}

TEST(MetricsFile, WritesALineAStepAtOnce) {
  const test::TemporaryFolder folder;
  MetricsFile file(folder / "metrics.jsonl", 0);
  file.write(metrics_at(1));
  EXPECT_EQ(content_of(folder / "metrics.jsonl"), json_line(metrics_at(1)) + "\n");
  file.write(metrics_at(2));
  EXPECT_EQ(content_of(folder / "metrics.jsonl"), json_line(metrics_at(1)) + "\n" + json_line(metrics_at(2)) + "\n");
}

TEST(MetricsFile, WhatAFullDiskDoesNotTakeIsThereOnceThereIsRoom) {
  const test::TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  MetricsFile file(path, 0);
  std::filesystem::remove(path);
  std::filesystem::create_symlink("/dev/full", path);
  file.write(metrics_at(1));
  file.write(metrics_at(2));
  std::filesystem::remove(path);
  file.write(metrics_at(3));
  EXPECT_EQ(content_of(path),
            json_line(metrics_at(1)) + "\n" + json_line(metrics_at(2)) + "\n" + json_line(metrics_at(3)) + "\n");
}

TEST(MetricsFile, AFolderThatIsGoneIsARunError) {
  const test::TemporaryFolder folder;
  const auto inner = folder / "run";
  std::filesystem::create_directory(inner);
  MetricsFile file(inner / "metrics.jsonl", 0);
  std::filesystem::remove_all(inner);
  EXPECT_NE(test::message_of<RunError>([&] { file.write(metrics_at(1)); }).find("No such file or directory"),
            std::string::npos);
}

TEST(MetricsFile, ResumeKeepsTheBytesOfFinishedStepsAndDropsLaterAndTornLines) {
  const test::TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  test::write_file(path,
                   "{\"step\":1,  \"loss\": 3.0}\n{\"step\": 2, \"loss\": null}\n{\"step\": 3}\n{\"step\": 2, \"lo");
  MetricsFile file(path, 2);
  EXPECT_EQ(content_of(path), "{\"step\":1,  \"loss\": 3.0}\n{\"step\": 2, \"loss\": null}\n");
  file.write(metrics_at(3));
  EXPECT_EQ(content_of(path),
            "{\"step\":1,  \"loss\": 3.0}\n{\"step\": 2, \"loss\": null}\n" + json_line(metrics_at(3)) + "\n");
  EXPECT_FALSE(std::filesystem::exists(folder / "metrics.jsonl.next"));
}

TEST(MetricsFile, ANewRunStartsEmptyAndAWholeLastLineIsKept) {
  const test::TemporaryFolder folder;
  const auto path = folder / "metrics.jsonl";
  test::write_file(path, "{\"step\": 1}");
  { const MetricsFile file(path, 1); }
  EXPECT_EQ(content_of(path), "{\"step\": 1}\n");
  { const MetricsFile file(path, 0); }
  EXPECT_EQ(content_of(path), "");
}

TEST(MetricsFile, NoFolderIsARunErrorThatNamesTheFile) {
  const test::TemporaryFolder folder;
  const auto message = test::message_of<RunError>([&] { MetricsFile(folder.path() / "none" / "metrics.jsonl", 0); });
  EXPECT_NE(message.find("none/metrics.jsonl"), std::string::npos) << message;
  EXPECT_NE(message.find("No such file or directory"), std::string::npos) << message;
}

}  // namespace
}  // namespace moesaic
