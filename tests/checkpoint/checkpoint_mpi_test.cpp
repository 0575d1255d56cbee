// Global arrays from any cut to any other, refusals, and a file that is replaced whole or not at all.
#include "moesaic/checkpoint/checkpoint.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <functional>

#include "io/temporary_folder.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "support/host_tensor.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

/// Which part of an array of `size` elements a rank holds.
using Cut = std::function<Block(std::int64_t size)>;

/// The arrays of a state, in memory of its own.
class State {
 public:
  void add(const std::string& name, DType type, Extents shape, const Cut& cut, bool owner = true) {
    const Block elements = cut(shape.size());
    values_.push_back(std::make_unique<HostTensor>(type, Extents{elements.size()}));
    arrays_.push_back(
        {.name = name, .type = type, .shape = shape, .elements = elements, .values = *values_.back(), .owner = owner});
  }
  /// Element i of array a is 100 a + i + offset: integers that bf16 holds.
  void number(double offset = 0) {
    for (std::size_t a = 0; a < arrays_.size(); ++a)
      for (std::int64_t i = 0; i < arrays_[a].elements.size(); ++i)
        set_element(arrays_[a].values, i, numbered(a, arrays_[a].elements.begin + i) + offset);
  }
  void expect_numbered(double offset = 0) const {
    for (std::size_t a = 0; a < arrays_.size(); ++a)
      for (std::int64_t i = 0; i < arrays_[a].elements.size(); ++i)
        ASSERT_EQ(element(arrays_[a].values, i), numbered(a, arrays_[a].elements.begin + i) + offset)
            << arrays_[a].name << ", " << i;
  }
  std::vector<StateArray>& arrays() { return arrays_; }

 private:
  static double numbered(std::size_t array, std::int64_t element) {
    return 100 * static_cast<double>(array) + static_cast<double>(element);
  }
  std::vector<std::unique_ptr<HostTensor>> values_;
  std::vector<StateArray> arrays_;
};

class Checkpoint : public ::testing::Test {
 protected:
  Checkpoint() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
  }

  /// Three arrays; the last has fewer elements than there may be ranks.
  State state(const Cut& cut, bool owner = true) const {
    State all;
    all.add("/parameters/a", DType::f32, {7, 5}, cut, owner);
    all.add("/optimizer/first_moment/a", DType::bf16, {7, 5}, cut, owner);
    all.add("/router/selection_bias/0", DType::f32, {2}, cut, owner);
    return all;
  }
  Cut in_blocks() const {
    return [this](std::int64_t elements) { return block_of(elements, size, rank); };
  }
  Cut in_blocks_backwards() const {
    return [this](std::int64_t elements) { return block_of(elements, size, size - 1 - rank); };
  }
  static Block whole(std::int64_t elements) { return {0, elements}; }

  void save(double offset = 0) const {
    State saved = state(in_blocks());
    saved.number(offset);
    save_checkpoint(path(), MPI_COMM_WORLD, info, saved.arrays());
  }
  /// What every rank says of loading `wanted`.
  std::string complaint(State wanted) const {
    const auto load =
        test::message_of<InputError>([&] { load_checkpoint(path(), MPI_COMM_WORLD, wanted.arrays(), host_stream); });
    const auto check = test::message_of<InputError>([&] { check_checkpoint(path(), wanted.arrays()); });
    EXPECT_EQ(load, check);
    MPI_Barrier(MPI_COMM_WORLD);
    return load;
  }
  void from_rank_0(const std::function<void()>& action) const {
    if (rank == 0) action();
    MPI_Barrier(MPI_COMM_WORLD);
  }
  fs::path path() const { return scratch.path() / "step-00000007.h5"; }
  fs::path partial() const { return scratch.path() / "step-00000007.h5.partial"; }

  int rank = 0, size = 1;
  CheckpointInfo info{.step = 7,
                      .tokens = 4096,
                      .samples = 56,
                      .seed = 0xfedcba9876543210u,
                      .grid = "a grid",
                      .version = "1.2.3",
                      .deck = "[run]\nname = x\n",
                      .config = "{\"model_type\": \"x\"}"};
  ScratchFolder scratch{"checkpoint"};
};

TEST_F(Checkpoint, AnyCutReadsWhatAnyOtherWrote) {
  save();
  for (const Cut& cut : {in_blocks(), in_blocks_backwards(), Cut(whole)}) {
    State loaded = state(cut);
    load_checkpoint(path(), MPI_COMM_WORLD, loaded.arrays(), host_stream);
    loaded.expect_numbered();
  }
}

TEST_F(Checkpoint, ItSaysWhereTheRunStood) {
  save();
  const CheckpointInfo read = read_checkpoint_info(path(), MPI_COMM_WORLD);
  EXPECT_EQ(read.step, 7);
  EXPECT_EQ(read.tokens, 4096);
  EXPECT_EQ(read.samples, 56);
  EXPECT_EQ(read.seed, 0xfedcba9876543210u);
  EXPECT_EQ(read.grid, "a grid");
  EXPECT_EQ(read.version, "1.2.3");
  EXPECT_EQ(read.deck, info.deck);
  EXPECT_EQ(read.config, info.config);
}

TEST_F(Checkpoint, ReplicasReadButDoNotWrite) {
  State saved = state(Cut(whole), rank == size - 1);
  saved.number(rank == size - 1 ? 0 : 1000);
  save_checkpoint(path(), MPI_COMM_WORLD, info, saved.arrays());
  State loaded = state(Cut(whole), false);
  load_checkpoint(path(), MPI_COMM_WORLD, loaded.arrays(), host_stream);
  loaded.expect_numbered();
}

TEST_F(Checkpoint, AnExistingOneIsReplacedAndNothingElseIsLeft) {
  save();
  save(64);
  State loaded = state(in_blocks());
  load_checkpoint(path(), MPI_COMM_WORLD, loaded.arrays(), host_stream);
  loaded.expect_numbered(64);
  EXPECT_FALSE(fs::exists(partial()));
  EXPECT_EQ(std::distance(fs::directory_iterator(scratch.path()), {}), 1);
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST_F(Checkpoint, AHalfWrittenOneIsWrittenAnew) {
  from_rank_0([&] { test::write_file(partial(), std::string(100000, 'x')); });
  save();
  EXPECT_FALSE(fs::exists(partial()));
  EXPECT_EQ(complaint(state(in_blocks())), "");
}

TEST_F(Checkpoint, WhenItCannotBeWrittenTheOldOneStays) {
  save();
  from_rank_0([&] { fs::create_directories(partial() / "in the way"); });
  const auto message = test::message_of<AgreedRunError>([&] { save(64); });
  EXPECT_NE(message.find("cannot be written"), std::string::npos) << message;
  State loaded = state(in_blocks());
  load_checkpoint(path(), MPI_COMM_WORLD, loaded.arrays(), host_stream);
  loaded.expect_numbered();
}

/// Files of this process may not grow beyond `bytes` while one lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit before_{};
};

TEST_F(Checkpoint, WithoutRoomEveryRankSaysSoAndTheOldOneStays) {
  save();
  {
    std::optional<FileSizeLimit> limit;
    if (rank == 0) limit.emplace(1000);
    const auto message = test::message_of<AgreedRunError>([&] { save(64); });
    EXPECT_NE(message.find("earlier checkpoints are untouched"), std::string::npos) << message;
    MPI_Barrier(MPI_COMM_WORLD);
  }
  EXPECT_FALSE(fs::exists(partial()));
  State loaded = state(in_blocks());
  load_checkpoint(path(), MPI_COMM_WORLD, loaded.arrays(), host_stream);
  loaded.expect_numbered();
}

TEST_F(Checkpoint, AMissingFileIsAnInputError) {
  EXPECT_NE(complaint(state(in_blocks())).find("step-00000007.h5"), std::string::npos);
  EXPECT_THROW(read_checkpoint_info(path(), MPI_COMM_WORLD), InputError);
}

TEST_F(Checkpoint, ABrokenFileIsAnInputError) {
  from_rank_0([&] { test::write_file(path(), "not HDF5 at all"); });
  EXPECT_NE(complaint(state(in_blocks())).find("step-00000007.h5"), std::string::npos);
}

TEST_F(Checkpoint, AFileCutShortIsAnInputError) {
  save();
  from_rank_0([&] { fs::resize_file(path(), fs::file_size(path()) / 2); });
  EXPECT_NE(complaint(state(in_blocks())).find("step-00000007.h5"), std::string::npos);
}

TEST_F(Checkpoint, AnotherProgramsFileIsRefused) {
  from_rank_0([&] {
    Hdf5File file = Hdf5File::create_serial(path());
    file.set_text("/", "program", "another");
    file.set_integer("/", "format", 1);
    file.close();
  });
  EXPECT_NE(complaint(state(in_blocks())).find("is not a checkpoint of moesaic"), std::string::npos);
}

TEST_F(Checkpoint, AFileWithoutAMarkIsRefused) {
  from_rank_0([&] { Hdf5File::create_serial(path()).close(); });
  EXPECT_NE(complaint(state(in_blocks())).find("it has no such mark"), std::string::npos);
}

TEST_F(Checkpoint, ANewerFormatIsRefused) {
  from_rank_0([&] {
    Hdf5File file = Hdf5File::create_serial(path());
    file.set_text("/", "program", "moesaic");
    file.set_integer("/", "format", 3);
    file.close();
  });
  EXPECT_NE(complaint(state(in_blocks())).find("format 3 and this program reads formats 1 to 2"), std::string::npos);
  EXPECT_THROW(read_checkpoint_info(path(), MPI_COMM_WORLD), InputError);
}

/// As the first version of the program wrote it: no hashes.
TEST_F(Checkpoint, TheFirstFormatIsStillRead) {
  from_rank_0([&] {
    State whole_state = state(Cut(whole));
    whole_state.number();
    Hdf5File file = Hdf5File::create_serial(path());
    file.set_text("/", "program", "moesaic");
    for (const char* key : {"format", "step", "tokens", "samples", "seed"}) file.set_integer("/", key, 1);
    file.set_text("/", "grid", "an old grid");
    file.write_bytes("/deck", "a deck");
    file.write_bytes("/config", "{}");
    for (const StateArray& array : whole_state.arrays()) {
      file.create_array(array.name, array.type, shape_of(array.shape));
      file.write_flat(array.name, {&array.elements, 1}, array.values);
    }
    file.close();
  });
  State loaded = state(in_blocks());
  load_checkpoint(path(), MPI_COMM_WORLD, loaded.arrays(), host_stream);
  loaded.expect_numbered();
  EXPECT_EQ(read_checkpoint_info(path(), MPI_COMM_WORLD).deck, "a deck");
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST_F(Checkpoint, AnElementThatNobodyWritesOrTwoDoIsADefect) {
  State missing = state([this](std::int64_t elements) { return rank == 0 ? Block{0, elements - 1} : Block{0, 0}; });
  EXPECT_NE(test::message_of<AgreedRunError>([&] {
              save_checkpoint(path(), MPI_COMM_WORLD, info, missing.arrays());
            }).find("elements 34 to 34 of /parameters/a"),
            std::string::npos);
  State twice = state(Cut(whole));
  if (size > 1) {
    EXPECT_NE(test::message_of<AgreedRunError>([&] {
                save_checkpoint(path(), MPI_COMM_WORLD, info, twice.arrays());
              }).find("by no rank or by two"),
              std::string::npos);
  }
  EXPECT_FALSE(fs::exists(path()));
  EXPECT_FALSE(fs::exists(partial()));
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST_F(Checkpoint, AMissingArrayIsNamed) {
  save();
  State wanted = state(in_blocks());
  wanted.add("/parameters/b", DType::f32, {3}, in_blocks());
  EXPECT_NE(complaint(std::move(wanted)).find("holds no /parameters/b"), std::string::npos);
}

TEST_F(Checkpoint, AnotherShapeIsQuoted) {
  save();
  State wanted;
  wanted.add("/parameters/a", DType::f32, {5, 7}, in_blocks());  // as many elements
  EXPECT_NE(complaint(std::move(wanted)).find("/parameters/a has shape [7, 5] where the model of this deck has [5, 7]"),
            std::string::npos);
}

TEST_F(Checkpoint, AnotherTypeIsQuoted) {
  save();
  State wanted;
  wanted.add("/optimizer/first_moment/a", DType::f32, {7, 5}, in_blocks());
  const std::string message = complaint(std::move(wanted));
  EXPECT_NE(message.find("is stored as BF16 where this deck has F32"), std::string::npos) << message;
  EXPECT_NE(message.find("optimizer.moments"), std::string::npos) << message;
}

}  // namespace
}  // namespace moesaic
