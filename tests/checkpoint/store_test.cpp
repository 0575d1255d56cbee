// Names of checkpoints, the newest of them, and what is kept. Files are empty: their format is no business of the store.
#include "moesaic/checkpoint/store.hpp"

#include <gtest/gtest.h>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

class Store : public ::testing::Test {
 protected:
  /// A complete checkpoint that nothing names yet.
  void add(std::int64_t step) { test::write_file(store(1).path_of(step), "whole"); }
  void commit(std::int64_t step, std::int64_t keep) {
    add(step);
    store(keep).commit(step);
  }
  CheckpointStore store(std::int64_t keep, std::int64_t keep_every = 0) const {
    return {folder / "run", keep, keep_every};
  }
  /// Steps of what a restart would try, in its order.
  std::vector<std::string> tried() const {
    std::vector<std::string> found;
    for (const auto& path : store(1).candidates()) found.push_back(path.stem());
    return found;
  }
  fs::path checkpoints() const { return folder / "run" / "checkpoints"; }

  /// Names in the folder, in order, the link left out.
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(checkpoints()))
      if (!entry.is_symlink()) found.push_back(entry.path().filename());
    std::sort(found.begin(), found.end());
    return found;
  }

  test::TemporaryFolder folder;
};

using Names = std::vector<std::string>;

TEST_F(Store, ACheckpointIsNamedByItsStep) {
  EXPECT_EQ(store(2).path_of(20), checkpoints() / "step-00000020.h5");
  EXPECT_EQ(store(2).path_of(12345678), checkpoints() / "step-12345678.h5");
}

TEST_F(Store, AtFirstThereIsNone) {
  EXPECT_FALSE(store(2).has_any());  // not even a folder
  store(2).prepare();
  EXPECT_FALSE(store(2).has_any());
  store(2).prepare();  // it may be there
}

TEST_F(Store, AFolderInThePlaceOfLatestIsRefused) {
  fs::create_directories(checkpoints() / "latest");
  EXPECT_NE(test::message_of<InputError>([&] { store(2).prepare(); }).find("latest is a folder"), std::string::npos);
}

TEST_F(Store, LatestIsARelativeLink) {
  store(2).prepare();
  commit(5, 2);
  EXPECT_EQ(fs::read_symlink(checkpoints() / "latest"), "step-00000005.h5");
  EXPECT_EQ(store(2).latest(), store(2).path_of(5));
  commit(10, 2);
  EXPECT_EQ(fs::read_symlink(checkpoints() / "latest"), "step-00000010.h5");
  fs::rename(folder / "run", folder / "moved");
  EXPECT_EQ(CheckpointStore(folder / "moved", 2).latest(), folder / "moved/checkpoints/step-00000010.h5");
}

TEST_F(Store, TheNewestAreKept) {
  store(2).prepare();
  for (std::int64_t step : {5, 10, 15, 20}) commit(step, 2);
  EXPECT_EQ(names(), (Names{"step-00000015.h5", "step-00000020.h5"}));
}

TEST_F(Store, EverySoManyStepsStayForGood) {
  store(1).prepare();
  for (std::int64_t step : {5, 10, 15, 20, 25}) {
    add(step);
    store(1, 10).commit(step);
  }
  EXPECT_EQ(names(), (Names{"step-00000010.h5", "step-00000020.h5", "step-00000025.h5"}));
}

TEST_F(Store, ARestartTriesTheLinkedOneThenThoseBeforeItThenLaterOnes) {
  store(9).prepare();
  for (std::int64_t step : {5, 10, 15, 20}) add(step);
  EXPECT_EQ(tried(), (Names{"step-00000020", "step-00000015", "step-00000010", "step-00000005"}));
  store(9).commit(10);
  EXPECT_EQ(tried(), (Names{"step-00000010", "step-00000005", "step-00000020", "step-00000015"}));
}

TEST_F(Store, ALinkToNothingIsTold) {
  store(9).prepare();
  EXPECT_EQ(store(9).dangling(), std::nullopt);
  commit(5, 9);
  EXPECT_EQ(store(9).dangling(), std::nullopt);
  fs::remove(store(9).path_of(5));
  EXPECT_EQ(store(9).dangling(), "step-00000005.h5");
}

TEST_F(Store, WhatACrashLeftIsSweptAndNothingElse) {
  store(9).prepare();
  commit(5, 9);
  for (const char* name : {"step-00000010.h5.partial", "notes.partial"}) test::write_file(checkpoints() / name, "?");
  fs::create_symlink("step-00000010.h5", checkpoints() / "latest.next");
  auto swept = store(9).sweep();
  std::sort(swept.begin(), swept.end());
  EXPECT_EQ(swept, (std::vector<std::string>{"latest.next", "step-00000010.h5.partial"}));
  EXPECT_EQ(names(), (Names{"notes.partial", "step-00000005.h5"}));
  EXPECT_TRUE(store(9).sweep().empty());
}

TEST_F(Store, StepsBehindTheOneSavedAreLeftAlone) {
  store(9).prepare();
  for (std::int64_t step : {5, 20, 30}) add(step);
  commit(10, 1);
  EXPECT_EQ(names(), (Names{"step-00000010.h5", "step-00000020.h5", "step-00000030.h5"}));
}

TEST_F(Store, AtLeastOneIsKept) {
  store(0).prepare();
  for (std::int64_t step : {5, 10}) commit(step, 0);
  EXPECT_EQ(names(), Names{"step-00000010.h5"});
}

TEST_F(Store, StepsSortByNumberBeyondEightDigits) {
  store(1).prepare();
  add(99999999);
  commit(100000000, 1);
  EXPECT_EQ(names(), Names{"step-100000000.h5"});
  add(99999999);
  fs::remove(checkpoints() / "latest");
  EXPECT_EQ(store(1).latest(), store(1).path_of(100000000));
}

TEST_F(Store, WhatWasJustSavedIsNeverRemoved) {
  // A run that was begun anew from an older checkpoint beside newer ones.
  store(1).prepare();
  add(20);
  add(30);
  commit(10, 1);
  EXPECT_TRUE(fs::exists(store(1).path_of(10)));
  EXPECT_EQ(store(1).latest(), store(1).path_of(10));
}

TEST_F(Store, ALinkToNothingFallsBackToTheNewestFile) {
  store(3).prepare();
  for (std::int64_t step : {5, 10, 15}) commit(step, 3);
  fs::remove(store(3).path_of(15));
  EXPECT_EQ(store(3).latest(), store(3).path_of(10));
  fs::remove(checkpoints() / "latest");
  EXPECT_EQ(store(3).latest(), store(3).path_of(10));
}

TEST_F(Store, HalfWrittenFilesAndStrangersDoNotCount) {
  store(1).prepare();
  for (const char* name : {"step-00000030.h5.partial", "notes.h5", "step-final.h5"})
    test::write_file(checkpoints() / name, "?");
  EXPECT_FALSE(store(1).has_any());
  commit(5, 1);
  commit(10, 1);
  EXPECT_EQ(names(), (Names{"notes.h5", "step-00000010.h5", "step-00000030.h5.partial", "step-final.h5"}));
}

TEST_F(Store, ALinkLeftByACrashDoesNotMatter) {
  store(2).prepare();
  fs::create_symlink("step-00000004.h5", checkpoints() / "latest.next");
  commit(5, 2);
  EXPECT_EQ(store(2).latest(), store(2).path_of(5));
  EXPECT_FALSE(fs::is_symlink(checkpoints() / "latest.next"));
}

/// Such as one without the right to read it, or on a file system that fails: here a link that leads to itself.
TEST_F(Store, AFolderThatCannotBeListedIsNotAnEmptyOne) {
  fs::create_directories(folder / "run");
  fs::create_symlink("checkpoints", checkpoints());
  const auto message = test::message_of<InputError>([&] { store(2).candidates(); });
  EXPECT_NE(message.find("run/checkpoints cannot be listed"), std::string::npos) << message;
}

TEST_F(Store, ALinkToItselfIsOneToNothing) {
  fs::create_directories(checkpoints());
  fs::create_symlink("latest", checkpoints() / "latest");
  EXPECT_EQ(store(2).dangling(), "latest");
}

TEST_F(Store, AFolderThatCannotBeMadeIsAnInputError) {
  test::write_file(folder / "run", "a file where the run directory should be");
  const auto message = test::message_of<InputError>([&] { store(2).prepare(); });
  EXPECT_NE(message.find("run/checkpoints cannot be made"), std::string::npos) << message;
  EXPECT_NE(message.find("name a run.directory"), std::string::npos) << message;
}

}  // namespace
}  // namespace moesaic
