// data.format = text and synthetic.
#include <gtest/gtest.h>

#include "data/datasets.hpp"

namespace moesaic {
namespace {

using namespace test;

class Text : public ::testing::Test {
 protected:
  DataSettings settings(const std::string& text, std::int64_t sequence, const std::string& validation = "") const {
    write_file(path_, text);
    return settings_of(DataFormat::text, path_.string(), sequence, validation);
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "text.txt";
};

TEST_F(Text, RowsShareOneByteWithTheNext) {
  const auto data = open_datasets(settings("abcdefgh", 3), 256, 1);
  EXPECT_EQ(data.validation, nullptr);
  EXPECT_EQ(rows_of(*data.training), (std::vector<Tokens>{{97, 98, 99, 100}, {100, 101, 102, 103}}));
  const Sample sample = row_of(*data.training, 0);
  EXPECT_TRUE(sample.counted.empty());
  EXPECT_TRUE(sample.documents.empty());
}

TEST_F(Text, BytesAreUnsigned) {
  const auto data = open_datasets(settings("\xff\x80", 1), 256, 1);
  EXPECT_EQ(rows_of(*data.training), (std::vector<Tokens>{{255, 128}}));
}

TEST_F(Text, TheLastShareOfTheBytesIsHeldOut) {
  // 10 bytes, 30 %: abcdefg | hij.
  const auto data = open_datasets(settings("abcdefghij", 2, "0.3"), 256, 1);
  EXPECT_EQ(rows_of(*data.training), (std::vector<Tokens>{{97, 98, 99}, {99, 100, 101}, {101, 102, 103}}));
  EXPECT_EQ(rows_of(*data.validation), (std::vector<Tokens>{{104, 105, 106}}));
}

TEST_F(Text, HeldOutBytesAreRoundedUp) {
  // 7 % of 100 is 7, though 0.07 * 100 > 7 in doubles; 7 % of 101 is 8.
  const auto of = [this](int size) { return open_datasets(settings(std::string(size, 'a'), 1, "0.07"), 256, 1); };
  EXPECT_EQ(of(100).validation->rows(), 6);
  EXPECT_EQ(of(100).training->rows(), 92);
  EXPECT_EQ(of(101).validation->rows(), 7);
}

TEST_F(Text, ValidationMayBeAFile) {
  write_file(folder_ / "other.txt", "xyz");
  const auto data = open_datasets(settings("abcd", 1, (folder_ / "other.txt").string()), 256, 1);
  EXPECT_EQ(data.training->rows(), 3);
  EXPECT_EQ(rows_of(*data.validation), (std::vector<Tokens>{{120, 121}, {121, 122}}));
}

TEST_F(Text, SeparatorsEndDocuments) {
  DataSettings with = settings("ab\ncd\n\ne", 7);
  with.separator = '\n';
  EXPECT_EQ(row_of(*open_datasets(with, 256, 1).training, 0).documents, (Tokens{0, 0, 0, 1, 1, 1, 2, 3}));
}

TEST_F(Text, BytesBeyondTheVocabularyAreRefused) {
  const DataSettings bad = settings("aaaaaz", 2);
  EXPECT_TRUE(mentions(refusal(bad, 122), {"text.txt", "token 122", "row 2 (byte 5)", "vocabulary of 122"}));
  EXPECT_EQ(refusal(bad, 123), "");
}

TEST_F(Text, BadBytesBehindTheFirstOnesAreRefusedWhenRead) {
  const std::int64_t rows = (1 << 14) + 1, sequence = 64;
  std::string text(static_cast<std::size_t>(rows * sequence + 1), 'a');
  text.back() = 'z';
  const auto data = open_datasets(settings(text, sequence), 122, 1);
  ASSERT_EQ(data.training->rows(), rows);
  EXPECT_EQ(row_of(*data.training, rows - 2).tokens, Tokens(65, 97));
  EXPECT_TRUE(mentions(message_of<InputError>([&] { row_of(*data.training, rows - 1); }),
                       {"token 122", "row 16384 (byte 1048640)"}));
}

TEST_F(Text, TooLittleTextIsRefused) {
  EXPECT_TRUE(mentions(refusal(settings("", 4)), {"text.txt", "its 0 bytes", "data.sequence + 1 = 5"}));
  EXPECT_TRUE(mentions(refusal(settings("abcd", 4)), {"its 4 bytes"}));
  EXPECT_EQ(refusal(settings("abcde", 4)), "");
  // The held-out part must hold a row as well.
  EXPECT_TRUE(mentions(refusal(settings("abcdefghij", 4, "0.2")), {"its 2 bytes from byte 8", "data.validation"}));
}

TEST_F(Text, BadSettingsAreRefused) {
  const DataSettings good = settings("abcdefghij", 2);
  DataSettings bad = good;
  bad.path = (folder_ / "none.txt").string();
  EXPECT_TRUE(mentions(refusal(bad), {"none.txt", "cannot be opened"}));
  bad.path = folder_.path().string();
  EXPECT_TRUE(mentions(refusal(bad), {"not a regular file"}));
  bad.path = "";
  EXPECT_TRUE(mentions(refusal(bad), {"data.path", "names no file"}));
  bad = good;
  bad.sequence = 0;
  EXPECT_TRUE(mentions(refusal(bad), {"data.sequence = 0"}));
  bad = good;
  bad.separator = 256;
  EXPECT_TRUE(mentions(refusal(bad), {"data.separator = 256", "vocabulary of 256"}));
  for (const char* share : {"0", "1", "1.5", "-0.1"}) {
    bad = good;
    bad.validation = share;
    EXPECT_TRUE(mentions(refusal(bad), {std::string("data.validation = ") + share})) << share;
  }
  bad.validation = "none.txt";
  EXPECT_TRUE(mentions(refusal(bad), {"none.txt", "cannot be opened"}));
}

TEST(Synthetic, TokensAreAFunctionOfSeedAndRow) {
  const DataSettings settings = settings_of(DataFormat::synthetic, "", 7);
  const auto data = open_datasets(settings, 11, 1), same = open_datasets(settings, 11, 1),
             other = open_datasets(settings, 11, 2);
  EXPECT_EQ(data.validation, nullptr);
  const Sample sample = row_of(*data.training, 5);
  EXPECT_EQ(sample.tokens.size(), 8u);
  EXPECT_EQ(sample.tokens, row_of(*same.training, 5).tokens);
  EXPECT_NE(sample.tokens, row_of(*other.training, 5).tokens);
  EXPECT_NE(sample.tokens, row_of(*data.training, 6).tokens);
  row_of(*data.training, data.training->rows() - 1);
}

TEST(Synthetic, TokensCoverTheVocabulary) {
  const auto data = open_datasets(settings_of(DataFormat::synthetic, "", 999), 10, 1);
  std::vector<int> seen(10);
  for (std::int32_t token : row_of(*data.training, 0).tokens) ++seen.at(static_cast<std::size_t>(token));
  for (int count : seen) EXPECT_NEAR(count, 100, 50);
}

TEST(Synthetic, ValidationHasOtherRows) {
  const auto data = open_datasets(settings_of(DataFormat::synthetic, "", 31, "0.1"), 256, 1);
  EXPECT_EQ(data.validation->rows(), 256);
  EXPECT_NE(row_of(*data.validation, 0).tokens, row_of(*data.training, 0).tokens);
}

TEST(Synthetic, SeparatorsEndDocuments) {
  DataSettings settings = settings_of(DataFormat::synthetic, "", 3);
  settings.separator = 0;
  EXPECT_EQ(row_of(*open_datasets(settings, 1, 1).training, 0).documents, (Tokens{0, 1, 2, 3}));
}

}  // namespace
}  // namespace moesaic
