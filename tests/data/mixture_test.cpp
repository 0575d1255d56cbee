// Several files in data.path. With sequence 1 the rows of a text are "ab", "bc", ...; the first token names the row.
#include <gtest/gtest.h>

#include "data/datasets.hpp"

namespace moesaic {
namespace {

using namespace test;

class Several : public ::testing::Test {
 protected:
  Several() {
    write_file(folder_ / "a", "ABCDEFG");  // six rows, A to F
    write_file(folder_ / "b", "abc");      // two rows, a and b
    write_file(folder_ / "c:0.5", "123");
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  Datasets open(const std::string& path, const std::string& validation = "") const {
    return open_datasets(settings_of(DataFormat::text, path, 1, validation), 256, 1);
  }
  std::string refused(const std::string& path) const { return refusal(settings_of(DataFormat::text, path, 1)); }
  static std::string first_tokens(const Dataset& data) {
    std::string tokens;
    for (const Tokens& row : rows_of(data)) tokens += static_cast<char>(row[0]);
    return tokens;
  }

  TemporaryFolder folder_;
};

TEST_F(Several, WithoutWeightsAreReadOneAfterTheOther) {
  EXPECT_EQ(first_tokens(*open(at("a") + "," + at("b")).training), "ABCDEFab");
  EXPECT_EQ(first_tokens(*open(at("b") + " , " + at("a")).training), "abABCDEF");
}

TEST_F(Several, WeightsMakeAFixedPattern) {
  // 3 : 1 is the pattern a a b a; six rows of the first are read after eight.
  EXPECT_EQ(first_tokens(*open(at("a") + ":3," + at("b") + ":1").training), "ABaCDEbF");
  // 1 : 1; b starts over until a has been read.
  EXPECT_EQ(first_tokens(*open(at("a") + ":0.5," + at("b") + ":0.5").training), "AaBbCaDbEaF");
}

TEST_F(Several, WeightsAreProportions) {
  // 7 : 2 : 1 is the pattern a a b a a c a a b a, here with b's file as the third too.
  const auto data = open(at("a") + ":0.7," + at("b") + ":0.2," + at("b") + ":0.1").training;
  EXPECT_EQ(first_tokens(*data), "ABaCDaEFbABCaDEb");
}

TEST_F(Several, TheEndOfEachIsHeldOut) {
  // ABCD|EFG and abcdefg|hij: 30 %, rounded up.
  write_file(folder_ / "d", "abcdefghij");
  EXPECT_EQ(first_tokens(*open(at("a") + "," + at("d"), "0.3").training), "ABCabcdef");
  EXPECT_EQ(first_tokens(*open(at("a") + ":3," + at("d") + ":1", "0.3").validation), "EFhi");
}

TEST_F(Several, AnExistingFileIsThatFile) {
  EXPECT_EQ(first_tokens(*open(at("c:0.5")).training), "12");
  EXPECT_EQ(first_tokens(*open(at("c:0.5") + "," + at("b")).training), "12ab");
}

TEST_F(Several, BadListsAreRefused) {
  EXPECT_TRUE(mentions(refused(at("a") + ":1," + at("b")), {"data.path", "1 of 2 files"}));
  EXPECT_TRUE(mentions(refused(at("a") + ":0," + at("b") + ":1"), {"data.path", "not above 0"}));
  EXPECT_TRUE(mentions(refused(at("a") + ":-1," + at("b") + ":1"), {"not above 0"}));
  EXPECT_TRUE(mentions(refused(at("a") + ",," + at("b")), {"names no file"}));
  EXPECT_TRUE(mentions(refused(at("a") + ","), {"names no file"}));
  EXPECT_TRUE(mentions(refused(at("a") + "," + at("none")), {"none", "cannot be opened"}));
}

}  // namespace
}  // namespace moesaic
