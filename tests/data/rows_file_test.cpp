// data.format = rows.
#include <gtest/gtest.h>
#include <hdf5.h>

#include "data/datasets.hpp"
#include "moesaic/data/batch.hpp"
#include "support/golden.hpp"
#include "support/rows_file.hpp"

namespace moesaic {
namespace {

using namespace test;

enum class Layout { contiguous, chunked, compressed };

/// An array of any HDF5 type and layout, which Hdf5File does not write; `values` are of `memory_type`.
void write_array(const std::string& path, const char* name, hid_t type, Layout layout,
                 const std::vector<hsize_t>& shape, hid_t memory_type, const void* values) {
  const hid_t file = std::filesystem::exists(path) ? H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)
                                                   : H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr);
  const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
  const std::vector<hsize_t> chunk(shape.size(), 2);
  if (layout != Layout::contiguous) H5Pset_chunk(properties, static_cast<int>(chunk.size()), chunk.data());
  if (layout == Layout::compressed) H5Pset_deflate(properties, 1);
  const hid_t dataset = H5Dcreate2(file, name, type, space, H5P_DEFAULT, properties, H5P_DEFAULT);
  EXPECT_GE(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0) << name;
  H5Dclose(dataset);
  H5Pclose(properties);
  H5Sclose(space);
  H5Fclose(file);
}

class Rows : public ::testing::Test {
 protected:
  DataSettings settings(std::int64_t sequence, const std::string& validation = "") const {
    return settings_of(DataFormat::rows, path_, sequence, validation);
  }
  void write(const RowsContents& contents) const { write_rows_file(path_, contents); }
  void write(const char* name, hid_t type, Layout layout, const std::vector<hsize_t>& shape,
             const std::vector<std::int64_t>& values) const {
    write_array(path_, name, type, layout, shape, H5T_NATIVE_INT64, values.data());
  }
  Datasets open(std::int64_t sequence, const std::string& validation = "") const {
    return open_datasets(settings(sequence, validation), 256, 1);
  }

  TemporaryFolder folder_;
  std::string path_ = (folder_ / "tokens.h5").string();
};

TEST_F(Rows, ARowIsASample) {
  write({3, {1, 2, 3, 4, 5, 6}});
  const auto data = open(2);
  EXPECT_EQ(data.validation, nullptr);
  EXPECT_EQ(rows_of(*data.training), (std::vector<Tokens>{{1, 2, 3}, {4, 5, 6}}));
  const Sample sample = row_of(*data.training, 1);
  EXPECT_TRUE(sample.counted.empty());
  EXPECT_TRUE(sample.documents.empty());
}

TEST_F(Rows, MaskAndDocumentsBelongToTokens) {
  write({3, {1, 2, 3, 4, 5, 6}, {1, 1, 0, 0, 1, 2}, {0, 0, 1, 5, 5, 6}});
  const Sample sample = row_of(*open(2).training, 1);
  EXPECT_EQ(sample.counted, (std::vector<std::uint8_t>{0, 1, 0}));  // 2 is not 1
  EXPECT_EQ(sample.documents, (Tokens{5, 5, 6}));
}

TEST_F(Rows, TheSeparatorOverrulesDocuments) {
  write({4, {1, 9, 3, 4, 9, 9, 9, 8}, {}, {7, 7, 7, 7, 7, 7, 7, 7}});
  DataSettings with = settings(3);
  with.separator = 9;
  const auto data = open_datasets(with, 256, 1);
  EXPECT_EQ(row_of(*data.training, 0).documents, (Tokens{0, 0, 1, 1}));
  EXPECT_EQ(row_of(*data.training, 1).documents, (Tokens{0, 1, 2, 3}));
}

TEST_F(Rows, EveryIntegerTypeAndLayoutReadsTheSame) {
  const std::vector<std::int64_t> values{1, 2, 127, 4, 5, 6, 0, 8, 9};
  const hid_t types[] = {H5T_STD_I8LE,  H5T_STD_U8LE,  H5T_STD_I16LE, H5T_STD_U16LE, H5T_STD_I32LE, H5T_STD_U32LE,
                         H5T_STD_I64LE, H5T_STD_U64LE, H5T_STD_I16BE, H5T_STD_I32BE, H5T_STD_U64BE};
  for (hid_t type : types) {
    for (Layout layout : {Layout::contiguous, Layout::chunked, Layout::compressed}) {
      std::filesystem::remove(path_);
      write("/tokens", type, layout, {3, 3}, values);
      EXPECT_EQ(rows_of(*open(2).training), (std::vector<Tokens>{{1, 2, 127}, {4, 5, 6}, {0, 8, 9}}));
    }
  }
}

TEST_F(Rows, LayoutsMayDifferWithinAFile) {
  write("/tokens", H5T_STD_U16LE, Layout::contiguous, {2, 2}, {1, 2, 3, 4});
  write("/loss_mask", H5T_STD_I8LE, Layout::chunked, {2, 2}, {0, 1, 1, 0});
  write("/document", H5T_STD_I64LE, Layout::compressed, {2, 2}, {0, 1, -2, 3});
  const Sample sample = row_of(*open(1).training, 1);
  EXPECT_EQ(sample.tokens, (Tokens{3, 4}));
  EXPECT_EQ(sample.counted, (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(sample.documents, (Tokens{-2, 3}));
}

/// h5py stores booleans as an enumeration.
TEST_F(Rows, AMaskMayBeBoolean) {
  for (Layout layout : {Layout::contiguous, Layout::chunked}) {
    std::filesystem::remove(path_);
    write({2, {1, 2, 3, 4}});
    const hid_t boolean = H5Tenum_create(H5T_STD_I8LE);
    const std::int8_t no = 0, yes = 1;
    H5Tenum_insert(boolean, "FALSE", &no);
    H5Tenum_insert(boolean, "TRUE", &yes);
    const std::int8_t marks[] = {0, 1, 1, 0};
    write_array(path_, "/loss_mask", boolean, layout, {2, 2}, boolean, marks);
    H5Tclose(boolean);
    EXPECT_EQ(row_of(*open(1).training, 1).counted, (std::vector<std::uint8_t>{1, 0}));
  }
}

TEST_F(Rows, TheLastRowsAreHeldOut) {
  write({2, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}});
  const auto data = open(1, "0.3");  // 1.5 of 5 rows: 2
  EXPECT_EQ(rows_of(*data.training), (std::vector<Tokens>{{0, 1}, {2, 3}, {4, 5}}));
  EXPECT_EQ(rows_of(*data.validation), (std::vector<Tokens>{{6, 7}, {8, 9}}));
}

TEST_F(Rows, ValidationMayBeAFile) {
  write({2, {0, 1}});
  const std::string other = (folder_ / "other.h5").string();
  write_rows_file(other, {2, {7, 8}});
  EXPECT_EQ(rows_of(*open(1, other).validation), (std::vector<Tokens>{{7, 8}}));
}

TEST_F(Rows, AWrongNumberOfColumnsIsRefused) {
  write({4, {1, 2, 3, 4}});
  EXPECT_TRUE(
      mentions(refusal(settings(7)), {"tokens.h5", "4 columns", "data.sequence = 7 needs 8", "data.sequence = 3"}));
}

TEST_F(Rows, TokensOfAnotherShapeOrTypeAreRefused) {
  write("/tokens", H5T_STD_I32LE, Layout::contiguous, {4}, {1, 2, 3, 4});
  EXPECT_TRUE(mentions(refusal(settings(1)), {"'/tokens' has the shape [4]", "[rows, sequence + 1]"}));
  std::filesystem::remove(path_);
  write("/tokens", H5T_IEEE_F32LE, Layout::contiguous, {1, 2}, {1, 2});
  EXPECT_TRUE(mentions(refusal(settings(1)), {"'/tokens' does not hold integers"}));
  std::filesystem::remove(path_);
  write("/tokens", H5T_STD_I32LE, Layout::contiguous, {0, 2}, {});
  EXPECT_TRUE(mentions(refusal(settings(1)), {"no row"}));
  std::filesystem::remove(path_);
  write("/ids", H5T_STD_I32LE, Layout::contiguous, {1, 2}, {1, 2});
  EXPECT_TRUE(mentions(refusal(settings(1)), {"no array '/tokens'"}));
}

TEST_F(Rows, MaskAndDocumentsOfAnotherShapeAreRefused) {
  for (const char* name : {"/loss_mask", "/document"}) {
    std::filesystem::remove(path_);
    write({2, {1, 2, 3, 4}});
    write(name, H5T_STD_I8LE, Layout::contiguous, {2, 1}, {1, 1});
    EXPECT_TRUE(mentions(refusal(settings(1)), {name, "[2, 1]", "[2, 2]"}));
    std::filesystem::remove(path_);
    write({2, {1, 2, 3, 4}});
    write(name, H5T_IEEE_F64LE, Layout::contiguous, {2, 2}, {1, 1, 1, 1});
    EXPECT_TRUE(mentions(refusal(settings(1)), {name, "does not hold integers"}));
  }
}

TEST_F(Rows, MissingAndForeignFilesAreRefused) {
  EXPECT_TRUE(mentions(refusal(settings(1)), {"tokens.h5", "cannot be opened"}));
  write_file(path_, "some text");
  EXPECT_TRUE(mentions(refusal(settings(1)), {"tokens.h5", "not an HDF5 file"}));
}

TEST_F(Rows, HoldingOutEveryRowIsRefused) {
  write({2, {1, 2}});
  EXPECT_TRUE(mentions(refusal(settings(1, "0.1")), {"data.validation = 0.1", "1 of 1 rows"}));
}

TEST_F(Rows, TokensBeyondTheVocabularyAreRefusedAtOpening) {
  write({3, {1, 2, 3, 4, 5, 300}});
  EXPECT_TRUE(mentions(refusal(settings(2)), {"tokens.h5", "token 300", "row 1, column 2", "vocabulary of 256"}));
  EXPECT_EQ(refusal(settings(2), 301), "");
  write({3, {1, -1, 3}});
  EXPECT_TRUE(mentions(refusal(settings(2)), {"token -1", "row 0, column 1"}));
}

TEST_F(Rows, UnsignedTokensBeyond63BitsAreRefused) {
  for (Layout layout : {Layout::contiguous, Layout::chunked}) {
    std::filesystem::remove(path_);
    const std::uint64_t tokens[] = {1, ~std::uint64_t{0}, 3, 4};
    write_array(path_, "/tokens", H5T_STD_U64LE, layout, {2, 2}, H5T_NATIVE_UINT64, tokens);
    EXPECT_TRUE(mentions(refusal(settings(1)), {"row 0, column 1", "vocabulary"}));
  }
}

TEST_F(Rows, BadTokensBehindTheFirstOnesAreRefusedWhenRead) {
  const std::int64_t columns = 1 << 10, rows = (1 << 10) + 2;
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(rows * columns), 1);
  tokens.back() = 256;
  write({columns, tokens});
  const auto data = open(columns - 1);
  EXPECT_EQ(row_of(*data.training, rows - 2).tokens.size(), static_cast<std::size_t>(columns));
  EXPECT_TRUE(mentions(message_of<InputError>([&] { row_of(*data.training, rows - 1); }),
                       {"token 256", "row 1025, column 1023"}));
}

TEST_F(Rows, StepsReadTheGoldenTokensInOrder) {
  const GoldenCase golden("qwen3_moe");
  ASSERT_EQ(golden.shape("train.tokens"), (Shape{20, 2, 65}));
  const Tokens tokens = golden.tokens("train.tokens");
  write({65, tokens});
  const auto data = open(64);
  ASSERT_EQ(data.training->rows(), 40);
  const Sampler sampler(40, false, 1);
  const HostBatch batch = read_batch(*data.training, sampler, 2 * 19, {1, 2}, 64);  // second sequence of the last step
  EXPECT_EQ(batch.ids, Tokens(tokens.end() - 65, tokens.end() - 1));
  EXPECT_EQ(batch.labels, Tokens(tokens.end() - 64, tokens.end()));
  EXPECT_EQ(golden.numbers("train.loss").size(), 20u);
}

}  // namespace
}  // namespace moesaic
