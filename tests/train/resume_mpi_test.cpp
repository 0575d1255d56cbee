// A run that stops and goes on is the run that never stopped: to the bit on the same grid, up to rounding on another.
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <list>
#include <map>

#include "io/temporary_folder.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/extra_arrays.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/io/input_file.hpp"
#include "support/golden_run.hpp"
#include "support/host_tensor.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;
using Metrics = std::vector<nlohmann::json>;

/// Every array of a checkpoint but the deck, as stored.
std::map<std::string, std::string> arrays_of(const fs::path& checkpoint) {
  std::map<std::string, std::string> contents;
  const Hdf5File file = Hdf5File::open_serial(checkpoint);
  for (const Hdf5Array& array : file.arrays()) {
    if (array.name == "/deck" || array.name.starts_with("/hashes/")) continue;
    HostTensor values(array.type == StorageType::u8     ? DType::u8
                      : array.type == StorageType::bf16 ? DType::bf16
                                                        : DType::f32,
                      {array.size()});
    const Block all{0, array.size()};
    file.read_flat(array.name, {&all, 1}, values);
    contents[array.name] = {static_cast<const char*>(values.view().raw()),
                            static_cast<std::size_t>(values.view().bytes())};
  }
  return contents;
}

class Resume12 : public ::testing::Test {
 protected:
  Resume12() {
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    write_golden_rows(golden, scratch.path() / "rows.h5");
  }

  /// Shuffled rows, a rate that changes with every step, biases that move, saved after steps 5, 10 and 12.
  RunSettings settings(const std::string& directory) const {
    RunSettings run = golden_settings(golden, scratch.path() / "rows.h5", scratch.path() / directory);
    run.seed = 3;
    run.data.shuffle = true;
    run.steps = 12;
    run.optimizer.schedule = LrSchedule::cosine;
    run.optimizer.warmup = 3;
    run.balance = Balance::bias;
    run.bias_rate = 0.01;
    run.checkpoint_every = 5;
    run.keep = 10;
    if (size % 2 == 0) run.grid.expert = 2;
    return run;
  }
  static fs::path checkpoint(const RunSettings& run, std::int64_t step) {
    return CheckpointStore(run.directory, 1).path_of(step);
  }

  /// When all ranks have come here; they wait for its end.
  static void on_first_rank(const std::function<void()>& action) {
    MPI_Barrier(MPI_COMM_WORLD);
    if (ScratchFolder::first()) action();
    MPI_Barrier(MPI_COMM_WORLD);
  }
  /// As after a crash in step 8 or later: the newest checkpoint is that of step 5, metrics go on behind it.
  static void forget_after_5(const RunSettings& run) {
    on_first_rank([&] {
      for (std::int64_t step : {10, 12}) fs::remove(checkpoint(run, step));
    });
  }

  static void expect_same_bits(const Metrics& actual, const Metrics& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      for (const char* key : {"step", "loss", "auxiliary_loss", "grad_norm", "lr", "tokens", "expert_load"})
        EXPECT_EQ(actual[i].at(key), expected[i].at(key)) << key << " at step " << expected[i].at("step");
  }
  static void expect_close(const Metrics& actual, const Metrics& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(actual[i].at("step"), expected[i].at("step"));
      EXPECT_NEAR(actual[i].at("loss").get<double>() / expected[i].at("loss").get<double>(), 1, 5e-6) << expected[i];
    }
  }
  /// Parameters, both moments and biases after step 12.
  static void expect_same_state(const RunSettings& actual, const RunSettings& expected) {
    if (!ScratchFolder::first()) return;
    const auto a = arrays_of(checkpoint(actual, 12)), b = arrays_of(checkpoint(expected, 12));
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [name, bytes] : b) EXPECT_TRUE(a.at(name) == bytes) << name;
    const std::string bias = b.at("/router/selection_bias/2");
    EXPECT_NE(bias, std::string(bias.size(), '\0'));
    EXPECT_EQ(b.count("/optimizer/second_moment/blocks/2/attention/output"), 1u);
  }

  /// From the checkpoint of step 5 of `straight` to step 12 on another grid.
  void expect_goes_on_at(const GridRequest& grid, const RunSettings& straight, const Metrics& expected) {
    RunSettings moved = settings("moved");
    moved.grid = grid;
    moved.resume = Resume::path;
    moved.resume_path = checkpoint(straight, 5);
    expect_close(trained_metrics(moved), {expected.begin() + 5, expected.end()});
    on_first_rank([&] { fs::remove_all(moved.directory); });
  }

  std::string refusal(const RunSettings& run) const {
    const auto message = test::message_of<InputError>([&] { train(run); });
    MPI_Barrier(MPI_COMM_WORLD);
    return message;
  }

  int size = 1;
  GoldenCase golden{"qwen3_moe"};
  ScratchFolder scratch{"resume"};
};

TEST_F(Resume12, GoingOnIsTheSameBitsAsNeverHavingStopped) {
  const RunSettings straight = settings("straight"), stopped = settings("stopped");
  const Metrics expected = trained_metrics(straight);
  trained_metrics(stopped);
  forget_after_5(stopped);
  expect_same_bits(trained_metrics(stopped), expected);  // whose `latest` leads nowhere, and 12 lines are there already
  expect_same_state(stopped, straight);
}

TEST_F(Resume12, AJobThatWasKilledBehindItsLastCheckpointIsCompleteWhenItIsRunAgain) {
  const RunSettings run = settings("killed");
  const Metrics expected = trained_metrics(run);
  const fs::path status = fs::path(run.directory) / "status";
  const auto text = [&] {
    std::ifstream file(status);
    return std::string{std::istreambuf_iterator<char>(file), {}};
  };
  on_first_rank([&] { std::ofstream(status) << "running 0\n"; });
  expect_same_bits(trained_metrics(run), expected);
  EXPECT_EQ(text(), "complete 12\n");
  MPI_Barrier(MPI_COMM_WORLD);
}

/// Flips a bit in the middle, where the arrays are.
void damage(const fs::path& checkpoint) {
  std::fstream file(checkpoint, std::ios::in | std::ios::out | std::ios::binary);
  const auto middle = static_cast<std::streamoff>(fs::file_size(checkpoint) / 2);
  file.seekg(middle);
  const auto flipped = static_cast<char>(file.get() ^ 4);
  file.seekp(middle);
  file.put(flipped);
}

TEST_F(Resume12, ADamagedOneIsPassedOverAndTheRunTheSame) {
  const RunSettings straight = settings("straight"), damaged = settings("damaged");
  const Metrics expected = trained_metrics(straight);
  trained_metrics(damaged);
  on_first_rank([&] {
    for (std::int64_t step : {10, 12}) damage(checkpoint(damaged, step));
  });
  expect_same_bits(trained_metrics(damaged), expected);
  expect_same_state(damaged, straight);
  on_first_rank([&] {
    std::ifstream events(fs::path(damaged.directory) / "events.jsonl");
    const std::string text{std::istreambuf_iterator<char>(events), {}};
    for (const char* name : {"step-00000010.h5", "step-00000012.h5"})
      EXPECT_NE(text.find(R"("event":"damaged checkpoint","step":5,"path":")" +
                          checkpoint(damaged, 5).parent_path().string() + "/" + name),
                std::string::npos)
          << text;
  });
}

TEST_F(Resume12, WhereNoneIsGoodNothingBeginsFromStep0) {
  const RunSettings run = settings("lost");
  trained_metrics(run);
  on_first_rank([&] {
    for (std::int64_t step : {5, 10, 12}) damage(checkpoint(run, step));
  });
  EXPECT_NE(refusal(run).find("holds 3 checkpoints and none of them is good"), std::string::npos);
}

TEST_F(Resume12, WrittenInTheForegroundTheFilesAreTheSame) {
  RunSettings background = settings("background"), foreground = settings("foreground");
  foreground.background = false;
  trained_metrics(background);
  trained_metrics(foreground);
  expect_same_state(foreground, background);
}

/// Written in the foreground a checkpoint is complete before the next step, whose metrics tell of it.
TEST_F(Resume12, TheStepBehindACheckpointHasItsFigures) {
  RunSettings run = settings("figures");
  run.background = false;
  for (const auto& line : trained_metrics(run)) {
    const bool behind = line.at("step") == 6 || line.at("step") == 11;
    for (const char* key :
         {"checkpoint_stall_seconds", "checkpoint_bytes_per_second", "checkpoint_file_system_share"}) {
      ASSERT_EQ(line.contains(key), behind) << line;
      EXPECT_TRUE(!behind || line.at(key).get<double>() > 0) << line;
    }
    EXPECT_LE(line.value("checkpoint_file_system_share", 0.0), 1);
  }
}

/// What a checkpoint carries along is in every later one.
TEST_F(Resume12, ExtraArraysSurvive) {
  RunSettings first = settings("first"), second = settings("second");
  first.steps = 5;
  trained_metrics(first);
  const fs::path imported = scratch.path() / "imported.h5";
  on_first_rank([&] {
    std::list<std::string> values;
    std::vector<StateArray> state;
    for (auto& [name, bytes] : arrays_of(checkpoint(first, 5))) {
      if (!name.starts_with("/parameters/")) continue;
      values.push_back(bytes);
      const Shape shape = Hdf5File::open_serial(checkpoint(first, 5)).array(name).shape;
      Extents extents = shape.size() == 1   ? Extents{shape[0]}
                        : shape.size() == 2 ? Extents{shape[0], shape[1]}
                                            : Extents{shape[0], shape[1], shape[2]};
      state.push_back({.name = name,
                       .type = DType::f32,
                       .shape = extents,
                       .elements = {0, extents.size()},
                       .values = View(values.back().data(), DType::f32, DeviceKind::cpu, {extents.size()})});
    }
    ExtraArrays extra;
    extra.add_file("tokenizer.json", "{}", true);
    extra.add("odd", DType::bf16, {3, 1}, {0, 3}, std::vector<std::byte>(6, std::byte{65}));
    state.insert(state.end(), extra.arrays().begin(), extra.arrays().end());
    save_checkpoint(imported, MPI_COMM_SELF,
                    {.grid = "", .version = "", .deck = "", .config = read_text(golden.config())}, state);
  });
  second.init = imported;
  second.balance = Balance::none;
  trained_metrics(second);
  const std::string odd = arrays_of(checkpoint(second, 12)).at("/extra/odd");
  EXPECT_EQ(odd, "AAAAAA");
  EXPECT_EQ(extra_files(Hdf5File::open_serial(checkpoint(second, 12))).at("tokenizer.json"), "{}");
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST_F(Resume12, MoreStepsGoOnWhereTheRunWasComplete) {
  RunSettings straight = settings("straight"), longer = settings("longer");
  for (RunSettings* run : {&straight, &longer}) run->optimizer.schedule = LrSchedule::constant;
  longer.steps = 5;
  EXPECT_EQ(trained_metrics(longer).size(), 5u);
  longer.steps = 12;
  expect_same_bits(trained_metrics(longer), trained_metrics(straight));
  expect_same_state(longer, straight);
}

TEST_F(Resume12, AnotherGridGoesOnUpToRounding) {
  const RunSettings straight = settings("straight");
  const Metrics expected = trained_metrics(straight);
  ASSERT_EQ(expected.size(), 12u);
  for (int expert : {1, 2, 4})
    if (size % expert == 0) expect_goes_on_at({.expert = expert}, straight, expected);
  for (int replicate : {2, 3, 4})
    if (size % replicate == 0) expect_goes_on_at({.replicate = replicate}, straight, expected);
  for (int context : {2, 4})
    if (size % context == 0) expect_goes_on_at({.context = context}, straight, expected);
}

TEST_F(Resume12, APathBeginsANewRunDirectoryWhoseOwnCheckpointsThenWin) {
  const RunSettings straight = settings("straight");
  const Metrics expected = trained_metrics(straight);
  RunSettings branch = settings("branch");
  branch.resume = Resume::path;
  branch.resume_path = checkpoint(straight, 5);
  expect_same_bits(trained_metrics(branch), {expected.begin() + 5, expected.end()});
  expect_same_state(branch, straight);
  on_first_rank([&] { fs::remove(checkpoint(branch, 12)); });
  branch.resume_path = "/nowhere.h5";  // step 10 of the branch itself comes first
  expect_same_bits(trained_metrics(branch), {expected.begin() + 5, expected.end()});
}

/// Names, sizes and times of all files.
std::string listing(const fs::path& folder) {
  std::vector<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename() != "lock")
      lines.push_back(fmt::format("{} {} {}\n", entry.path().string(), entry.file_size(),
                                  entry.last_write_time().time_since_epoch().count()));
  std::sort(lines.begin(), lines.end());
  return fmt::format("{}", fmt::join(lines, ""));
}

TEST_F(Resume12, ACompleteRunIsLeftAlone) {
  RunSettings run = settings("complete");
  EXPECT_EQ(train(run), done);
  const std::string before = listing(run.directory);
  MPI_Barrier(MPI_COMM_WORLD);
  EXPECT_EQ(train(run), done);
  EXPECT_EQ(listing(run.directory), before);
  MPI_Barrier(MPI_COMM_WORLD);
  run.steps = 7;  // fewer than there are
  EXPECT_EQ(train(run), done);
  EXPECT_EQ(listing(run.directory), before);
}

TEST_F(Resume12, NeverIsRefusedWhereCheckpointsAre) {
  RunSettings run = settings("never");
  run.steps = 2;
  run.resume = Resume::never;
  EXPECT_EQ(train(run), done);
  const std::string before = listing(run.directory);
  EXPECT_NE(refusal(run).find("holds checkpoints and checkpoint.resume is never"), std::string::npos);
  EXPECT_EQ(listing(run.directory), before);
}

TEST_F(Resume12, ACheckpointThatDoesNotFitIsRefusedBeforeAnythingIsWritten) {
  RunSettings run = settings("first");
  run.steps = 1;
  EXPECT_EQ(train(run), done);
  RunSettings other = settings("other");
  other.resume = Resume::path;
  other.resume_path = checkpoint(run, 1);
  other.optimizer.moments = DType::bf16;
  EXPECT_NE(refusal(other).find("optimizer.moments"), std::string::npos);
  other.optimizer.moments = DType::f32;
  other.overrides.layers = 2;  // fewer layers than are stored: those that are there suffice
  other.overrides.experts = 4;
  EXPECT_NE(refusal(other).find("shape"), std::string::npos);
  other = settings("other");
  other.resume = Resume::path;
  other.resume_path = scratch.path() / "rows.h5";
  EXPECT_NE(refusal(other).find("is not a checkpoint of moesaic"), std::string::npos);
  EXPECT_FALSE(fs::exists(other.directory));
}

TEST_F(Resume12, MomentsInHalfTheBytesResumeToTheSameBits) {
  RunSettings straight = settings("straight"), stopped = settings("stopped");
  for (RunSettings* run : {&straight, &stopped}) run->optimizer.moments = DType::bf16;
  const Metrics expected = trained_metrics(straight);
  trained_metrics(stopped);
  forget_after_5(stopped);
  expect_same_bits(trained_metrics(stopped), expected);
  expect_same_state(stopped, straight);
}

}  // namespace
}  // namespace moesaic
