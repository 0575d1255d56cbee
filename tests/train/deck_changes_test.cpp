#include "moesaic/train/deck_changes.hpp"

#include <gtest/gtest.h>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

const std::string begun = "[run]\nseed = 1\n\n[train]\nsteps = 10\nglobal_batch = 8\n\n[grid]\nshard = 0\n";

TEST(DeckChanges, NoneBetweenEqualDecks) { EXPECT_TRUE(deck_changes(begun, begun, "").empty()); }

TEST(DeckChanges, KeysAreNamedWithBothValues) {
  const auto changes =
      deck_changes(begun, "[run]\nseed = 2\n\n[train]\nsteps = 20\nglobal_batch = 8\n\n[grid]\nexpert = 4\n", "");
  ASSERT_EQ(changes.size(), 4u);
  EXPECT_EQ(changes[0].key, "grid.expert");
  EXPECT_EQ(changes[0].before, "");
  EXPECT_EQ(changes[0].now, "4");
  EXPECT_TRUE(changes[0].allowed);
  EXPECT_EQ(changes[1].key, "grid.shard");
  EXPECT_EQ(changes[2].key, "run.seed");
  EXPECT_FALSE(changes[2].allowed);
  EXPECT_EQ(changes[3].key, "train.steps");
  EXPECT_TRUE(changes[3].allowed);
}

TEST(DeckChanges, WhatChangesTheRunIsRefused) {
  EXPECT_NO_THROW(
      refuse_changes(deck_changes(begun, "[run]\nseed = 1\n\n[train]\nsteps = 99\nglobal_batch = 8\n", ""), "runs/a"));
  try {
    refuse_changes(deck_changes(begun, "[run]\nseed = 7\n\n[train]\nsteps = 10\n", ""), "runs/a");
    FAIL() << "nothing was refused";
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()),
              "runs/a holds checkpoints of another deck: run.seed was 1 and is 7, train.global_batch was 8 and is left "
              "out (the run would no longer be the one that was begun); restore what it was, or name another "
              "run.directory");
  }
}

TEST(DeckChanges, AKeyThatAnOlderProgramDidNotKnowHadItsDefault) {
  const std::string now = begun + "\n[moe]\nbias_rate = 0.001\n",
                    defaults = "[run]\nseed = 0\n\n[moe]\nbias_rate = 0.001\n";
  EXPECT_TRUE(deck_changes(begun, now, defaults).empty());
  const auto changes = deck_changes(begun, begun + "\n[moe]\nbias_rate = 0.5\n", defaults);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].key, "moe.bias_rate");
  EXPECT_EQ(changes[0].before, "0.001");
  EXPECT_FALSE(changes[0].allowed);
}

TEST(DeckChanges, HowTheSameIsComputedMayChange) {
  for (const char* key : {"deterministic", "max_skipped", "recompute", "reduce", "micro_batch", "profile_steps"}) {
    const auto changes = deck_changes("[train]\n", std::string("[train]\n") + key + " = 3\n", "");
    ASSERT_EQ(changes.size(), 1u);
    EXPECT_TRUE(changes[0].allowed) << key;
  }
}

}  // namespace
}  // namespace moesaic
