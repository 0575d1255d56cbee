#include "moesaic/io/hdf5_file.hpp"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <memory>

#include "io/temporary_folder.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {
namespace {

using test::message_of;

bool mentions(const std::string& message, const std::string& part) { return message.find(part) != std::string::npos; }

/// One folder for all ranks, made by the first and removed behind the last.
class Hdf5 : public ::testing::Test {
 protected:
  Hdf5() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (rank_ == 0) folder_ = std::make_unique<test::TemporaryFolder>();
    char name[256] = {};
    if (rank_ == 0) folder_->path().string().copy(name, sizeof name - 1);
    MPI_Bcast(name, sizeof name, MPI_CHAR, 0, MPI_COMM_WORLD);
    path_ = std::filesystem::path(name) / "x.h5";
  }
  ~Hdf5() override { MPI_Barrier(MPI_COMM_WORLD); }

  /// Uneven ranges: pieces of 1, 2, 3, ... elements dealt to the ranks in turn, starting with rank `first`.
  std::vector<Block> ranges_of(std::int64_t size, int first) const {
    std::vector<Block> ranges;
    std::int64_t begin = 0;
    for (std::int64_t piece = 1; begin < size; ++piece) {
      const std::int64_t end = std::min(begin + piece, size);
      if ((first + piece) % size_ == rank_) ranges.push_back({begin, end});
      begin = end;
    }
    return ranges;
  }

  /// value(i) of every index of `ranges`.
  template <class T> static std::vector<T> values_of(const std::vector<Block>& ranges) {
    std::vector<T> values;
    for (Block range : ranges) {
      for (std::int64_t i = range.begin; i < range.end; ++i) values.push_back(static_cast<T>(i * 3 + 1));
    }
    return values;
  }

  template <class T> void write(Hdf5File& file, const std::string& name, const Shape& shape) const {
    file.create_array(name, dtype_of<T>::value, shape);
    const auto ranges = ranges_of(*element_count(shape), 0);
    const auto values = values_of<T>(ranges);
    file.write_flat(name, ranges, host_view(values.data(), {std::ssize(values)}));
  }

  template <class T>
  void expect(const Hdf5File& file, const std::string& name, const Shape& shape, Participation participation) const {
    const auto ranges = ranges_of(*element_count(shape), 1);
    const auto expected = values_of<T>(ranges);
    std::vector<T> values(expected.size());
    file.read_flat(name, ranges, host_view(values.data(), {std::ssize(values)}), participation);
    EXPECT_EQ(values, expected) << name;
    EXPECT_EQ(file.array(name).shape, shape);
    EXPECT_EQ(file.array(name).type, stored(dtype_of<T>::value));
  }

  int rank_ = 0, size_ = 1;
  std::unique_ptr<test::TemporaryFolder> folder_;
  std::filesystem::path path_;
};

TEST_F(Hdf5, AnotherPartitionReadsWhatOneWrote) {
  for (const std::int64_t limit : {std::int64_t{1} << 30, std::int64_t{24}}) {
    Hdf5File written = Hdf5File::create(path_, MPI_COMM_WORLD);
    written.limit_transfers(limit);
    write<float>(written, "/parameters/one", {37});
    write<double>(written, "/parameters/deep/two", {9, 7});
    write<std::int64_t>(written, "/three", {3, 5, 4});
    write<std::int32_t>(written, "/few", {2});
    write<float>(written, "/none", {0, 4});
    write<float>(written, "/scalar", {});
    written.close();
    Hdf5File read = Hdf5File::open(path_, MPI_COMM_WORLD);
    read.limit_transfers(limit);
    for (Participation participation : {Participation::collective, Participation::independent}) {
      expect<float>(read, "/parameters/one", {37}, participation);
      expect<double>(read, "/parameters/deep/two", {9, 7}, participation);
      expect<std::int64_t>(read, "/three", {3, 5, 4}, participation);
      expect<std::int32_t>(read, "/few", {2}, participation);
      expect<float>(read, "/none", {0, 4}, participation);
      expect<float>(read, "/scalar", {}, participation);
    }
  }
}

TEST_F(Hdf5, OneRankMayWriteEverything) {
  Hdf5File file = Hdf5File::create(path_, MPI_COMM_WORLD);
  file.limit_transfers(16);
  file.create_array("/a", DType::f32, {5, 3});
  const std::vector<Block> ranges(rank_ == size_ - 1 ? 1 : 0, Block{0, 15});
  const auto values = values_of<float>(ranges);
  file.write_flat("/a", ranges, host_view(values.data(), {std::ssize(values)}));
  expect<float>(file, "/a", {5, 3}, Participation::collective);
}

TEST_F(Hdf5, BrainFloatsAreANumberTypeOfTheFile) {
  Hdf5File file = Hdf5File::create(path_, MPI_COMM_WORLD);
  file.create_array("/b", DType::bf16, {2});
  const std::vector<bf16> values{to_bf16(1.5f), to_bf16(-3.0f)};
  const std::vector<Block> ranges(rank_ == 0 ? 1 : 0, Block{0, 2});
  file.write_flat("/b", ranges, rank_ == 0 ? host_view(values.data(), {2}) : host_view(values.data(), {0}));
  file.close();
  EXPECT_EQ(Hdf5File::open_serial(path_).array("/b").type, StorageType::bf16);
  const hid_t raw = H5Fopen(path_.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), dataset = H5Dopen2(raw, "/b", H5P_DEFAULT);
  float widened[2] = {};
  EXPECT_GE(H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, widened), 0);
  EXPECT_EQ(widened[0], 1.5f);
  EXPECT_EQ(widened[1], -3.0f);
  H5Dclose(dataset);
  H5Fclose(raw);
}

TEST_F(Hdf5, BytesAndAttributesComeBack) {
  Hdf5File file = Hdf5File::create(path_, MPI_COMM_WORLD);
  const std::string deck("[run]\nname = x\0y", 16);
  file.write_bytes("/text/deck", deck);
  file.write_bytes("/text/nothing", "");
  file.set_integer("/", "step", 20);
  file.set_integer("/", "step", 1LL << 40);
  file.set_number("/", "rate", 0.1);
  file.set_text("/optimizer/state", "name", "adamw");
  file.set_text("/optimizer/state", "empty", "");
  file.sync();
  file.close();
  const Hdf5File read = Hdf5File::open(path_, MPI_COMM_WORLD);
  EXPECT_EQ(read.read_bytes("/text/deck"), deck);
  EXPECT_EQ(read.read_bytes("/text/nothing"), "");
  EXPECT_EQ(read.integer("/", "step"), 1LL << 40);
  EXPECT_EQ(read.number("/", "rate"), 0.1);
  EXPECT_EQ(read.text("/optimizer/state", "name"), "adamw");
  EXPECT_EQ(read.text("/optimizer/state", "empty"), "");
  EXPECT_TRUE(read.has_attribute("/", "step"));
  EXPECT_FALSE(read.has_attribute("/", "absent"));
  EXPECT_FALSE(read.has_attribute("/absent", "step"));
  EXPECT_TRUE(mentions(message_of<InputError>([&] { read.integer("/", "absent"); }), "no attribute 'absent'"));
  EXPECT_THROW(read.integer("/", "rate"), InputError);
  EXPECT_THROW(read.text("/", "step"), InputError);
}

TEST_F(Hdf5, ListsItsArraysWithTheirPlaces) {
  {
    Hdf5File file = Hdf5File::create(path_, MPI_COMM_WORLD);
    write<std::int32_t>(file, "/b/second", {2, 3});
    write<float>(file, "/a", {4});
  }
  const Hdf5File file = Hdf5File::open_serial(path_);
  const auto arrays = file.arrays();
  ASSERT_EQ(arrays.size(), 2u);
  EXPECT_EQ(arrays[0].name, "/a");
  EXPECT_EQ(arrays[1].name, "/b/second");
  EXPECT_EQ(arrays[1].shape, (Shape{2, 3}));
  EXPECT_TRUE(file.contains("/"));
  EXPECT_TRUE(file.contains("/b"));
  EXPECT_TRUE(file.contains("/b/second"));
  EXPECT_FALSE(file.contains("/c/second"));
  ASSERT_TRUE(arrays[1].offset);
  std::int32_t last = 0;
  InputFile(path_).read_at(*arrays[1].offset + 5 * 4, &last, 4);
  EXPECT_EQ(last, 5 * 3 + 1);
}

/// A file as another program may write it: `type` on disk, chunked or not.
void write_rows(const std::filesystem::path& path, hid_t type, bool chunked) {
  const hsize_t extents[2] = {2, 3};
  const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  const hid_t space = H5Screate_simple(2, extents, nullptr), layout = H5Pcreate(H5P_DATASET_CREATE);
  if (chunked) H5Pset_chunk(layout, 2, extents);
  const hid_t dataset = H5Dcreate2(file, "tokens", type, space, H5P_DEFAULT, layout, H5P_DEFAULT);
  const int rows[6] = {0, 1, 2, 3, 4, 200};
  H5Dwrite(dataset, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows);
  H5Dclose(dataset);
  H5Pclose(layout);
  H5Sclose(space);
  H5Fclose(file);
}

TEST_F(Hdf5, IntegersOfEveryTypeAndLayoutAreRead) {
  const auto path = path_.string() + std::to_string(rank_);
  const std::pair<hid_t, StorageType> types[] = {{H5T_STD_U8LE, StorageType::u8},   {H5T_STD_I16LE, StorageType::i16},
                                                 {H5T_STD_U16LE, StorageType::u16}, {H5T_STD_I32LE, StorageType::i32},
                                                 {H5T_STD_U32LE, StorageType::u32}, {H5T_STD_I64LE, StorageType::i64},
                                                 {H5T_STD_I32BE, StorageType::i32}, {H5T_STD_U64LE, StorageType::u64}};
  for (const auto& [type, stored_type] : types) {
    for (bool chunked : {false, true}) {
      write_rows(path, type, chunked);
      const Hdf5File file = Hdf5File::open_serial(path);
      const Hdf5Array tokens = file.array("/tokens");
      EXPECT_EQ(tokens.type, stored_type);
      EXPECT_EQ(tokens.shape, (Shape{2, 3}));
      EXPECT_EQ(tokens.offset.has_value(), !chunked && H5Tequal(type, H5T_STD_I32BE) <= 0);
      EXPECT_EQ(file.read_integers("/tokens", {2, 6}), (std::vector<std::int64_t>{2, 3, 4, 200}));
      EXPECT_THROW(file.read_integers("/tokens", {2, 7}), InputError);
    }
  }
  write_rows(path, H5T_IEEE_F32LE, false);
  EXPECT_TRUE(mentions(message_of<InputError>([&] {
                         Hdf5File::open_serial(path).read_integers("/tokens", {0, 1});
                       }),
                       "does not hold integers"));
}

TEST_F(Hdf5, FilesThatAreNoneAreRefused) {
  const auto opening = [&] { return message_of<InputError>([&] { Hdf5File::open(path_, MPI_COMM_WORLD); }); };
  EXPECT_TRUE(mentions(opening(), "no such file"));
  EXPECT_TRUE(mentions(message_of<InputError>([&] { Hdf5File::open_serial(path_); }), "no such file"));
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank_ == 0) test::write_file(path_, "this is text");
  MPI_Barrier(MPI_COMM_WORLD);
  EXPECT_TRUE(mentions(opening(), "not an HDF5 file"));
  EXPECT_TRUE(mentions(message_of<RunError>([&] { Hdf5File::create(path_ / "in_a_file.h5", MPI_COMM_WORLD); }),
                       "cannot be created"));
}

TEST_F(Hdf5, MisfitsAreRefusedByEveryRank) {
  Hdf5File file = Hdf5File::create(path_, MPI_COMM_WORLD);
  write<float>(file, "/a", {2, 2});
  std::vector<float> floats(4);
  std::vector<double> doubles(4);
  const auto refusal = [&](std::vector<Block> ranges, View values, const char* name = "/a") {
    return message_of<InputError>([&] { file.read_flat(name, ranges, values); });
  };
  EXPECT_TRUE(mentions(refusal({{0, 4}}, host_view(floats.data(), {4}), "/b"), "no array '/b'"));
  EXPECT_TRUE(mentions(refusal({{0, 4}}, host_view(doubles.data(), {4})), "holds F32, not f64"));
  EXPECT_TRUE(mentions(refusal({{1, 5}}, host_view(floats.data(), {4})), "shape [2, 2]"));
  EXPECT_TRUE(mentions(refusal({{2, 4}, {0, 2}}, host_view(floats.data(), {4})), "out of order"));
  EXPECT_TRUE(mentions(refusal({{0, 4}}, host_view(floats.data(), {3})), "3 elements in memory for 4"));
  // Only one rank is wrong: all of them stop.
  const std::int64_t end = rank_ == 0 ? 5 : 4;
  EXPECT_NE(refusal({{1, end}}, host_view(floats.data(), {end - 1})), "");
  EXPECT_EQ(refusal({{0, 4}}, host_view(floats.data(), {4})), "");
  EXPECT_TRUE(mentions(message_of<RunError>([&] { file.create_array("/a", DType::f32, {1}); }), "creating array '/a'"));
}

TEST_F(Hdf5, OneProcessNeedsNoCommunicator) {
  const auto path = path_.string() + std::to_string(rank_);
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const Block all{0, 6}, middle{1, 5};
  {
    Hdf5File file = Hdf5File::create_serial(path);
    file.create_array("/x", DType::f32, {3, 2});
    file.write_flat("/x", {&all, 1}, host_view(values.data(), {6}));
    file.write_bytes("/deck", "abc");
  }
  const Hdf5File file = Hdf5File::open_serial(path);
  std::vector<float> read(4);
  file.read_flat("/x", {&middle, 1}, host_view(read.data(), {4}));
  EXPECT_EQ(read, (std::vector<float>{2, 3, 4, 5}));
  EXPECT_EQ(file.read_bytes("/deck"), "abc");
}

}  // namespace
}  // namespace moesaic
