#include "moesaic/app/option_values.hpp"

#include <gtest/gtest.h>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

std::string refusal(const std::function<void()>& parse) {
  try {
    parse();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(ParseInteger, AsPeopleWriteThem) {
  EXPECT_EQ(parse_integer("k", "1100"), 1100);
  EXPECT_EQ(parse_integer("k", "-1"), -1);
  EXPECT_EQ(parse_integer("k", "1e3"), 1000);
  EXPECT_EQ(parse_integer("k", "1.5e3"), 1500);
  EXPECT_EQ(parse_integer("k", "4Ki"), 4096);
  EXPECT_EQ(parse_integer("k", "16Mi"), 16777216);
  EXPECT_EQ(parse_integer("k", "1.5Gi"), 1610612736);
  EXPECT_EQ(parse_integer("k", "2k"), 2000);
  EXPECT_EQ(parse_integer("k", "5M"), 5000000);
  EXPECT_EQ(parse_integer("k", "300B"), 300000000000);
  EXPECT_EQ(parse_integer("k", "1T"), 1000000000000);
}

TEST(ParseInteger, LargeOnesAreExact) {
  EXPECT_EQ(parse_integer("k", "9223372036854775807"), INT64_MAX);
  EXPECT_EQ(parse_integer("k", "9007199254740993"), 9007199254740993);  // 2^53 + 1 is no double
}

TEST(ParseInteger, RefusesWhatIsNone) {
  for (const char* text :
       {"", "soon", "1.5", "4ki", "4 Ki", "1e3x", "0x10", "9223372036854775808", "1e30", "nan", "inf"})
    EXPECT_THROW(parse_integer("k", text), InputError) << text;
  EXPECT_EQ(refusal([] { parse_integer("train.steps", "soon"); }),
            "train.steps = soon is not an integer; write one such as 1100, 1e6, 4Ki or 300B");
}

TEST(ParseNumber, FiniteOnesOnly) {
  EXPECT_EQ(parse_number("k", "2e-3"), 0.002);
  EXPECT_EQ(parse_number("k", "-0.5"), -0.5);
  EXPECT_EQ(parse_number("k", "1"), 1.0);
  for (const char* text : {"", "fast", "1e-3x", "nan", "inf", "1e999", "0,1"})
    EXPECT_THROW(parse_number("k", text), InputError) << text;
}

TEST(ParseFlag, BothWordsOfEachPair) {
  for (const char* text : {"true", "yes", "on", "1"}) EXPECT_TRUE(parse_flag("k", text)) << text;
  for (const char* text : {"false", "no", "off", "0"}) EXPECT_FALSE(parse_flag("k", text)) << text;
  for (const char* text : {"", "maybe", "True", "2"}) EXPECT_THROW(parse_flag("k", text), InputError) << text;
}

TEST(ParseDuration, HoursMinutesSeconds) {
  EXPECT_EQ(parse_duration("k", "0"), 0);
  EXPECT_EQ(parse_duration("k", "90"), 90);
  EXPECT_EQ(parse_duration("k", "1:30"), 90);
  EXPECT_EQ(parse_duration("k", "24:00:00"), 86400);
  EXPECT_EQ(parse_duration("k", "01:02:03"), 3723);
  for (const char* text : {"", "-1", "1:2:3:4", "1:", ":30", "1h", "nan", "1:-5"})
    EXPECT_THROW(parse_duration("k", text), InputError) << text;
}

TEST(ParseProfileSteps, BothEndsOrHowMany) {
  EXPECT_EQ(parse_profile_steps("k", "none").count, 0);
  const ProfileSteps range = parse_profile_steps("k", "4:6");
  EXPECT_EQ(range.first, 4);
  EXPECT_EQ(range.count, 3);
  EXPECT_FALSE(range.from_start);
  const ProfileSteps three = parse_profile_steps("k", "3");
  EXPECT_EQ(three.first, 3);  // two of warm-up before
  EXPECT_EQ(three.count, 3);
  EXPECT_TRUE(three.from_start);
}

TEST(ParseProfileSteps, RefusesWhatNamesNoStepsOrTooMany) {
  for (const char* text : {"", "soon", "0", "-1", "0:3", "6:4", "4:", ":6", "4:5:6"})
    EXPECT_THROW(parse_profile_steps("k", text), InputError) << text;
  EXPECT_EQ(refusal([] { parse_profile_steps("train.profile_steps", "6:4"); }),
            "train.profile_steps = 6:4 names no steps; write the first and the last such as 4:6, how many, or none");
  EXPECT_EQ(refusal([] { parse_profile_steps("train.profile_steps", "1:51"); }),
            "train.profile_steps = 1:51 are 51 steps (every operator of each is kept); name 50 at most");
}

}  // namespace
}  // namespace moesaic
