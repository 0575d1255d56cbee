#pragma once
/// The 20 reference steps as a run of the program's own trainer.

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <fstream>
#include <vector>

#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/train/run.hpp"
#include "support/golden.hpp"
#include "support/rows_file.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {

/// Writes the reference tokens as rows to `path`, from the first rank.
inline void write_golden_rows(const GoldenCase& golden, const std::filesystem::path& path) {
  if (ScratchFolder::first())
    write_rows_file(path, {.columns = golden.shape("train.tokens")[2], .tokens = golden.tokens("train.tokens")});
  MPI_Barrier(MPI_COMM_WORLD);
}

/// The same of the first batch: its inputs, and the label of the last.
inline void write_golden_batch(const GoldenCase& golden, const std::filesystem::path& path) {
  const std::int64_t rows = golden.shape("input_ids")[0], length = golden.shape("input_ids")[1];
  const auto ids = golden.tokens("input_ids"), labels = golden.tokens("labels");
  std::vector<std::int32_t> tokens;
  for (std::int64_t row = 0; row < rows; ++row) {
    tokens.insert(tokens.end(), ids.begin() + row * length, ids.begin() + (row + 1) * length);
    tokens.push_back(labels[static_cast<std::size_t>((row + 1) * length - 1)]);
  }
  if (ScratchFolder::first()) write_rows_file(path, {.columns = length + 1, .tokens = tokens});
  MPI_Barrier(MPI_COMM_WORLD);
}

/// What tests/golden/README.md says the curve was made with.
inline RunSettings golden_settings(const GoldenCase& golden, const std::filesystem::path& rows,
                                   const std::filesystem::path& directory) {
  RunSettings settings;
  settings.name = "golden";
  settings.directory = directory;
  settings.init = golden.folder();
  settings.data = {.path = rows,
                   .format = DataFormat::rows,
                   .sequence = golden.shape("train.tokens")[2] - 1,
                   .shuffle = false,
                   .separator = {},
                   .validation = {}};
  settings.steps = golden.shape("train.tokens")[0];
  settings.global_batch = golden.shape("train.tokens")[1];
  settings.micro_batch = 1;
  settings.optimizer = {
      .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .decay = Decay::all, .clip = 1.0};
  settings.balance = Balance::none;
  settings.log_every = 1000;
  return settings;
}

/// One object a step, on every rank.
inline std::vector<nlohmann::json> read_metrics(const std::filesystem::path& directory) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(directory / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline Status train(const RunSettings& settings) {
  MpiSession session;
  Arena scratch(host_memory());
  MpiCommunicator world(MpiHandle::duplicate(MPI_COMM_WORLD), scratch);
  return run_training(settings, session, world);
}

/// Trains and returns the metrics.
inline std::vector<nlohmann::json> trained_metrics(const RunSettings& settings) {
  const Status status = train(settings);
  return status == done ? read_metrics(settings.directory) : std::vector<nlohmann::json>{};
}

/// 20 losses within 5e-6 and 20 gradient norms within 5e-5, relative.
inline void expect_golden_curve(const GoldenCase& golden, const std::vector<nlohmann::json>& metrics) {
  const auto loss = golden.numbers("train.loss"), norm = golden.numbers("train.grad_norm");
  ASSERT_EQ(metrics.size(), loss.size());
  for (std::size_t i = 0; i < loss.size(); ++i) {
    EXPECT_LE(std::abs(metrics[i]["loss"].get<double>() / loss[i] - 1), 5e-6) << "step " << i + 1;
    EXPECT_LE(std::abs(metrics[i]["grad_norm"].get<double>() / norm[i] - 1), 5e-5) << "step " << i + 1;
  }
}

}  // namespace moesaic
