// What is saved is the state at the moment of saving, whatever training does to it afterwards.
#include "moesaic/checkpoint/background_writer.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/temporary_folder.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

class Writer : public ::testing::TestWithParam<bool> {
 protected:
  Writer() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    const Block mine = block_of(100000, size, rank);
    values.resize(static_cast<std::size_t>(mine.size()));
    state.push_back({.name = "/parameters/a",
                     .type = DType::f32,
                     .shape = {100000},
                     .elements = mine,
                     .values = host_view(values.data(), {mine.size()})});
    if (rank == 0) store.prepare();
    MPI_Barrier(MPI_COMM_WORLD);
  }
  void save(CheckpointWriter& writer, std::int64_t step) {
    std::fill(values.begin(), values.end(), static_cast<float>(step));
    writer.save({.step = step, .grid = "", .version = "", .deck = "", .config = ""}, state, host_stream, [] {});
    std::fill(values.begin(), values.end(), -1.0f);
  }
  void expect_saved(std::int64_t step) {
    load_checkpoint(store.path_of(step), MPI_COMM_WORLD, state, host_stream);
    EXPECT_EQ(std::count(values.begin(), values.end(), static_cast<float>(step)), std::ssize(values));
  }

  int rank = 0, size = 1;
  std::vector<float> values;
  std::vector<StateArray> state;
  ScratchFolder scratch{"writer"};
  CheckpointStore store{scratch.path(), 3};
};

TEST_P(Writer, EachSaveHoldsItsOwnMoment) {
  {
    CheckpointWriter writer(store, MPI_COMM_WORLD, GetParam());
    for (std::int64_t step : {1, 2, 3}) save(writer, step);
  }  // waits for the last
  MPI_Barrier(MPI_COMM_WORLD);
  for (std::int64_t step : {1, 2, 3}) expect_saved(step);
  EXPECT_EQ(store.latest(), store.path_of(3));
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST_P(Writer, OutcomesSayWhatWasWritten) {
  CheckpointWriter writer(store, MPI_COMM_WORLD, GetParam());
  save(writer, 4);
  writer.wait([] {});
  const auto outcomes = writer.take_outcomes();
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_TRUE(outcomes[0].saved());
  EXPECT_EQ(outcomes[0].step, 4);
  EXPECT_EQ(outcomes[0].path, store.path_of(4));
  EXPECT_EQ(outcomes[0].cost.bytes, 400000);
  EXPECT_GT(outcomes[0].cost.seconds, 0);
  EXPECT_TRUE(writer.take_outcomes().empty());
  EXPECT_FALSE(writer.failed());
}

TEST_P(Writer, WhatBreaksIsSaidOnAllRanksAtTheNextCall) {
  CheckpointWriter writer(store, MPI_COMM_WORLD, GetParam());
  if (rank == 0) fs::create_directories(store.path_of(5) / "in the way");
  MPI_Barrier(MPI_COMM_WORLD);
  const auto message = test::message_of<AgreedRunError>([&] {
    save(writer, 5);
    writer.wait([] {});
  });
  EXPECT_NE(message.find("step-00000005.h5"), std::string::npos) << message;
  EXPECT_TRUE(writer.failed());
  EXPECT_THROW(save(writer, 6), AgreedRunError);
  MPI_Barrier(MPI_COMM_WORLD);
}

INSTANTIATE_TEST_SUITE_P(All, Writer, ::testing::Bool(),
                         [](const auto& instance) { return instance.param ? "Background" : "Foreground"; });

}  // namespace
}  // namespace moesaic
