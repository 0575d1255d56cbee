#include "moesaic/app/deck.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "moesaic/base/contract.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

const std::string minimal =
    "[run]\ndirectory = /tmp/out\n[data]\nformat = synthetic\nsequence = 64\n[train]\nsteps = 10\nglobal_batch = 4\n"
    "[optimizer]\nlr = 1e-3\n";

class Deck : public ::testing::Test {
 protected:
  RunSettings read(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    std::ofstream(path()) << text;
    return read_deck(path(), overrides);
  }
  std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) const {
    try {
      read(text, overrides);
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  }
  std::string path() const { return (folder_.path() / "deck.ini").string(); }

 private:
  ScratchFolder folder_{"deck"};
};

TEST_F(Deck, SetsWhatItNamesAndLeavesDefaults) {
  const RunSettings s = read(minimal);
  EXPECT_EQ(s.directory, "/tmp/out");
  EXPECT_EQ(s.steps, 10);
  EXPECT_EQ(s.global_batch, 4);
  EXPECT_EQ(s.micro_batch, 1);
  EXPECT_EQ(s.optimizer.lr, 1e-3);
  EXPECT_EQ(s.init, "random");
  EXPECT_EQ(s.keep, 2);
  EXPECT_EQ(s.auxiliary_coefficient, std::nullopt);
}

TEST_F(Deck, TheCommandLineWinsWithAndWithoutDashes) {
  const RunSettings s = read(minimal, {"train.steps=1e3", "--data.sequence=4Ki"});
  EXPECT_EQ(s.steps, 1000);
  EXPECT_EQ(s.data.sequence, 4096);
}

TEST_F(Deck, CommentsEndLinesAndMayStandAlone) {
  EXPECT_EQ(read("# a deck\n\n" + minimal + "clip = 0.5  # of the global norm\n").optimizer.clip, 0.5);
}

TEST_F(Deck, ASectionMayComeAgainAndAKeyMayCarryItsSection) {
  EXPECT_EQ(read(minimal + "[train]\nmicro_batch = 2\n").micro_batch, 2);
  EXPECT_EQ(read("log.every = 3\n" + minimal).log_every, 3);
}

TEST_F(Deck, PathsMayHoldSpacesAndEqualsSigns) {
  EXPECT_EQ(read(minimal + "[model]\nconfig = /my models/a=b.json\n").config, "/my models/a=b.json");
  EXPECT_EQ(read(minimal, {"run.directory=/my runs/a=b"}).directory, "/my runs/a=b");
}

TEST_F(Deck, AnEmptyValueIsAsGoodAsLeftOut) {
  const std::string deck = minimal + "[model]\nconfig =\nlayers = 3\n[data]\nvalidation = 1\nseparator = 5\n";
  EXPECT_EQ(read(deck).data.validation, "1");
  EXPECT_EQ(read(deck).config, "");
  const RunSettings s = read(deck, {"data.validation=", "--data.separator=", "model.layers="});
  EXPECT_EQ(s.data.validation, "");
  EXPECT_EQ(s.data.separator, std::nullopt);
  EXPECT_EQ(s.overrides.layers, 0);
  EXPECT_EQ(
      refusal(minimal, {"train.steps="}),
      "train.steps is missing (the run is complete at this step, counted from the beginning); set it in the deck");
}

TEST_F(Deck, TheResolvedDeckGivesTheSameSettingsAgain) {
  const RunSettings first = read(minimal, {"optimizer.schedule=cosine", "run.name=two words", "moe.balance=bias"});
  const RunSettings second = read(first.deck);
  EXPECT_EQ(second.deck, first.deck);
  EXPECT_EQ(second.name, "two words");
  EXPECT_EQ(second.optimizer.schedule, LrSchedule::cosine);
  EXPECT_EQ(second.balance, Balance::bias);
  EXPECT_EQ(second.optimizer.lr, 1e-3);
}

TEST_F(Deck, UnknownKeysNameTheNearest) {
  EXPECT_EQ(refusal(minimal + "[train]\nstesp = 3\n"),
            "unknown key train.stesp in " + path() + " (nothing would read it); did you mean train.steps?");
  EXPECT_EQ(refusal(minimal, {"--optimiser.lr=1"}),
            "unknown key optimiser.lr in the command line (nothing would read it); did you mean optimizer.lr?");
  EXPECT_NE(refusal(minimal, {"global_batch=3"}).find("did you mean train.global_batch?"), std::string::npos);
}

TEST_F(Deck, AKeyTwiceInOneSourceIsRefused) {
  EXPECT_EQ(refusal(minimal + "[train]\nsteps = 11\n"),
            "train.steps is given twice in " + path() + " (which one counts?); remove one");
  EXPECT_EQ(refusal(minimal, {"train.steps=1", "--train.steps=1"}),
            "train.steps is given twice in the command line (which one counts?); remove one");
}

TEST_F(Deck, BareWordsAreRefused) {
  for (const std::string word : {"steps", "--train.steps", "-train.steps=3", "--", "=3", "--=3"})
    EXPECT_EQ(refusal(minimal, {word}),
              word + " on the command line is not an option; write key=value, such as train.steps=100");
  EXPECT_NE(refusal(minimal + "steps\n").find("write key = value"), std::string::npos);
}

TEST_F(Deck, ThePrefixOfAKeyIsNoKey) {
  for (const std::string word : {"grid.pipe=2", "--grid.pipelin=2", "data.seq=64"})
    EXPECT_NE(refusal(minimal, {word}), "accepted") << word;
}

TEST_F(Deck, WhatTheResolvedDeckCouldNotHoldIsRefused) {
  EXPECT_EQ(refusal(minimal, {"run.directory=/tmp/a#b"}),
            "run.directory=/tmp/a#b holds a # or a line break (a deck would end the value there); use another name");
}

TEST_F(Deck, WhatIsNotBuiltIsRefusedAndItsDefaultAccepted) {
  EXPECT_EQ(refusal(minimal, {"optimizer.name=sgd"}),
            "optimizer.name = sgd is not built yet; leave it out or write adamw");
  EXPECT_EQ(refusal(minimal, {"train.deterministic=true", "grid.schedule=1f1b", "optimizer.name=adamw"}), "accepted");
}

TEST_F(Deck, ReceiveBuffersHoldNoLessThanTheMeanLoad) {
  EXPECT_EQ(refusal(minimal, {"moe.receive_bound=4"}), "accepted");
  EXPECT_EQ(refusal(minimal, {"moe.receive_bound=0.5"}), "moe.receive_bound = 0.5 is out of range; use 1 to 1000000");
}

TEST_F(Deck, AMissingDeckIsNamed) {
  EXPECT_THROW(read_deck("/nowhere/deck.ini", {}), InputError);
  EXPECT_THROW(read_deck("/tmp", {}), InputError);
}

}  // namespace
}  // namespace moesaic
