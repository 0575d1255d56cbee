// Every bit of a checkpoint's content is covered by a hash, and what differs is named.
#include "moesaic/checkpoint/integrity.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "io/temporary_folder.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/extra_arrays.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

/// Above 4 MiB in all: an array of several blocks for each rank.
constexpr std::int64_t rows = 1201, columns = 1009;

class Integrity : public ::testing::Test {
 protected:
  Integrity() : world(MpiHandle::duplicate(MPI_COMM_WORLD), arena) {
    const Block mine = block_of(rows * columns, world.size(), world.rank());
    values.resize(static_cast<std::size_t>(mine.size()));
    for (std::int64_t i = 0; i < mine.size(); ++i)
      values[static_cast<std::size_t>(i)] = static_cast<float>((mine.begin + i) % 8191);
    state.push_back({.name = "/parameters/large",
                     .type = DType::f32,
                     .shape = {rows, columns},
                     .elements = mine,
                     .values = host_view(values.data(), {mine.size()})});
    extra.add_file("tokenizer.json", "{\"a\": 1}", world.rank() == 0);
    state.insert(state.end(), extra.arrays().begin(), extra.arrays().end());
    save_checkpoint(path(), MPI_COMM_WORLD, info, state);
  }
  fs::path path() const { return scratch.path() / "step-00000007.h5"; }

  void from_rank_0(const std::function<void()>& action) {
    world.barrier();
    if (world.rank() == 0) action();
    world.barrier();
  }
  void flip(std::int64_t byte, int bit) const {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(byte);
    const auto flipped = static_cast<char>(file.get() ^ (1 << bit));
    file.seekp(byte);
    file.put(flipped);
  }
  std::int64_t place_of(const std::string& name) const { return *Hdf5File::open_serial(path()).array(name).offset; }

  /// What differs, as all ranks together and one process alone find it, a line each.
  std::string damages() {
    std::string together, alone;
    for (const Damage& damage : verify_checkpoint(path(), world).damages) together += describe(damage) + '\n';
    for (const Damage& damage : verify_checkpoint(path()).damages) alone += describe(damage) + '\n';
    EXPECT_EQ(together, alone);
    world.barrier();
    return together;
  }
  /// What every rank says of loading the large array when rank r holds the elements from bounds(r) to bounds(r + 1), and the
  /// values it got.
  std::string load_complaint(const std::function<std::int64_t(int)>& bounds, std::vector<float>& loaded) {
    const Block mine{bounds(world.rank()), bounds(world.rank() + 1)};
    loaded.resize(static_cast<std::size_t>(mine.size()));
    StateArray large = state[0];
    large.elements = mine;
    large.values = host_view(loaded.data(), {mine.size()});
    const auto message = test::message_of<DamagedCheckpointError>(
        [&] { load_checkpoint(path(), MPI_COMM_WORLD, {large}, host_stream); });
    world.barrier();
    return message;
  }
  /// Bytes that this process has read from files so far.
  static std::int64_t bytes_read() {
    std::ifstream counters("/proc/self/io");
    std::string name;
    std::int64_t bytes = 0;
    counters >> name >> bytes;
    return name == "rchar:" ? bytes : -1;
  }
  /// Bytes that all ranks read while `work` runs.
  std::int64_t bytes_read_by(const std::function<void()>& work) {
    const std::int64_t before = bytes_read();
    work();
    std::int64_t bytes = bytes_read() - before;
    world.all_reduce(host_view(&bytes, {1}));
    return bytes;
  }
  std::string load_complaint() {
    return test::message_of<InputError>([&] { load_checkpoint(path(), MPI_COMM_WORLD, state, host_stream); });
  }

  Arena arena{host_memory()};
  MpiCommunicator world;
  std::vector<float> values;
  std::vector<StateArray> state;
  ExtraArrays extra;
  CheckpointInfo info{.step = 7,
                      .tokens = 4096,
                      .samples = 56,
                      .seed = 1,
                      .grid = "a grid",
                      .version = "0",
                      .deck = "[run]\nname = x\n",
                      .config = "{\"model_type\": \"x\"}"};
  ScratchFolder scratch{"integrity"};
};

TEST_F(Integrity, WhatWasWrittenIsIntact) {
  EXPECT_EQ(damages(), "");
  const Verification found = verify_checkpoint(path(), world);
  EXPECT_EQ(found.step, 7);
  EXPECT_EQ(found.format, 2);
  EXPECT_EQ(found.arrays, 4);
  EXPECT_EQ(found.bytes, rows * columns * 4 + 15 + 19 + 8);
  EXPECT_EQ(load_complaint(), "");
}

TEST_F(Integrity, AFlippedBitIsFoundAndItsRangeNamed) {
  const std::int64_t element = 1200 * columns + 5;
  from_rank_0([&] { flip(place_of("/parameters/large") + 4 * element, 6); });
  const Verification found = verify_checkpoint(path(), world);
  ASSERT_EQ(found.damages.size(), 1u);
  EXPECT_EQ(found.damages[0].array, "/parameters/large");
  EXPECT_TRUE(found.damages[0].elements.contains(element));
  EXPECT_NE(damages().find("/parameters/large: elements "), std::string::npos);
  EXPECT_NE(load_complaint().find("is damaged: /parameters/large: elements "), std::string::npos);
}

TEST_F(Integrity, LoadingOnAnyCutFindsDamageWherever) {
  constexpr std::int64_t elements = rows * columns;
  const auto shifted = [&](int r) {
    return r == 0 ? 0 : r == world.size() ? elements : elements * r / world.size() + 77;
  };
  const auto all_on_last = [&](int r) { return r == world.size() ? elements : 0; };
  std::vector<float> loaded;
  for (const auto& bounds : {std::function<std::int64_t(int)>(shifted), {all_on_last}}) {
    EXPECT_EQ(load_complaint(bounds, loaded), "");
    const std::int64_t first = bounds(world.rank());
    for (std::int64_t i = 0; i < std::ssize(loaded); ++i)
      ASSERT_EQ(loaded[static_cast<std::size_t>(i)], static_cast<float>((first + i) % 8191)) << first << " + " << i;
    for (std::int64_t place = 0; place < 16; ++place) {
      const std::int64_t byte = place_of("/parameters/large") + (4 * elements - 1) * place / 15;
      from_rank_0([&] { flip(byte, 2); });
      EXPECT_NE(load_complaint(bounds, loaded).find("is damaged: /parameters/large: elements "), std::string::npos)
          << byte;
      from_rank_0([&] { flip(byte, 2); });
    }
  }
}

TEST_F(Integrity, LoadingReadsEachByteOnce) {
  if (bytes_read() < 0) GTEST_SKIP() << "/proc/self/io does not say what a process reads";
  const std::int64_t bytes = bytes_read_by([&] { load_checkpoint(path(), MPI_COMM_WORLD, state, host_stream); });
  EXPECT_GE(bytes, rows * columns * 4);
  EXPECT_LT(bytes, rows * columns * 4 + (1 << 20));  // and what the file says of itself
}

TEST_F(Integrity, DeckConfigAndExtraFilesAreCovered) {
  for (const char* name : {"/deck", "/config", "/extra/files/tokenizer.json"}) {
    from_rank_0([&] { flip(place_of(name) + 3, 0); });
    EXPECT_NE(damages().find(std::string(name) + ": elements 0 to "), std::string::npos) << name;
    from_rank_0([&] { flip(place_of(name) + 3, 0); });
  }
  EXPECT_EQ(damages(), "");
}

TEST_F(Integrity, WhatACheckpointSaysOfARunIsCompared) {
  EXPECT_EQ(read_checkpoint_info(path(), MPI_COMM_WORLD).deck, info.deck);
  for (const char* name : {"/deck", "/config", "/hashes/blocks"}) {
    from_rank_0([&] { flip(place_of(name) + 3, 0); });
    const auto message =
        test::message_of<DamagedCheckpointError>([&] { read_checkpoint_info(path(), MPI_COMM_WORLD); });
    EXPECT_NE(message.find(std::string("is damaged: ") + (name[1] == 'h' ? "/hashes" : name)), std::string::npos)
        << message;
    EXPECT_EQ(test::message_of<DamagedCheckpointError>([&] { checkpoint_info(Hdf5File::open_serial(path())); }),
              message);
    from_rank_0([&] { flip(place_of(name) + 3, 0); });
  }
}

TEST_F(Integrity, TheHashesThemselvesAreCovered) {
  for (std::int64_t byte : {0, 8, 25, 31}) {
    from_rank_0([&] { flip(place_of("/hashes/blocks") + byte, 1); });
    EXPECT_NE(damages().find("/hashes/blocks, or its own hash in /hashes/summary, differs"), std::string::npos) << byte;
    from_rank_0([&] { flip(place_of("/hashes/blocks") + byte, 1); });
  }
  for (std::int64_t byte : {3, 11}) {
    from_rank_0([&] { flip(place_of("/hashes/summary") + byte, 1); });
    EXPECT_NE(damages().find("/hashes/summary"), std::string::npos) << byte;
    from_rank_0([&] { flip(place_of("/hashes/summary") + byte, 1); });
  }
}

TEST_F(Integrity, SwappedBlocksAreFound) {
  from_rank_0([&] {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    const std::int64_t first = place_of("/parameters/large"), second = first + 4 * 8000;
    std::string a(4096, 0), b(4096, 0);
    file.seekg(first).read(a.data(), 4096);
    file.seekg(second).read(b.data(), 4096);
    file.seekp(first).write(b.data(), 4096);
    file.seekp(second).write(a.data(), 4096);
  });
  EXPECT_NE(damages().find("/parameters/large: elements 0 to "), std::string::npos);
}

TEST_F(Integrity, AFileCutShortIsRefusedWherever) {
  const auto whole = static_cast<std::int64_t>(fs::file_size(path()));
  for (std::int64_t size : {whole - 1, whole / 2, std::int64_t{100}, std::int64_t{0}}) {
    from_rank_0([&] { fs::resize_file(path(), static_cast<std::uintmax_t>(size)); });
    EXPECT_THROW(verify_checkpoint(path(), world), InputError) << size;
    EXPECT_THROW(verify_checkpoint(path()), InputError) << size;
  }
}

/// Bits of everything that is no array's content: found, or nothing that is read depends on them.
TEST_F(Integrity, FlipsOfTheRestAreFoundOrDoNotMatter) {
  std::map<std::int64_t, std::int64_t> arrays;  // begin -> end
  for (const Hdf5Array& array : Hdf5File::open_serial(path()).arrays())
    arrays[*array.offset] = *array.offset + array.size() * size_of(*array.type);
  const auto whole = static_cast<std::int64_t>(fs::file_size(path()));
  std::int64_t padding = 0, found = 0;
  for (std::int64_t byte = 0; byte < whole; byte += 1 + byte / 64) {
    const auto next = arrays.upper_bound(byte);
    if (next != arrays.begin() && byte < std::prev(next)->second) continue;
    from_rank_0([&] { flip(byte, 4); });
    try {
      (damages().empty() ? padding : found) += 1;
      load_checkpoint(path(), MPI_COMM_WORLD, state, host_stream);
      EXPECT_EQ(values.back(),
                static_cast<float>((block_of(rows * columns, world.size(), world.rank()).end - 1) % 8191));
    } catch (const InputError&) {
      ++found;
      world.barrier();
    }
    from_rank_0([&] { flip(byte, 4); });
  }
  EXPECT_GT(found, 100);
  EXPECT_GE(padding, 0);
  EXPECT_EQ(damages(), "");
}

TEST_F(Integrity, ExtraArraysAreCarriedFromOneCheckpointToTheNext) {
  const ExtraArrays loaded = ExtraArrays::load(path(), MPI_COMM_WORLD);
  std::vector<StateArray> next{state[0]};
  next.insert(next.end(), loaded.arrays().begin(), loaded.arrays().end());
  const fs::path second = scratch.path() / "step-00000008.h5";
  save_checkpoint(second, MPI_COMM_WORLD, info, next);
  EXPECT_TRUE(verify_checkpoint(second, world).intact());
  const auto files = extra_files(Hdf5File::open_serial(second));
  EXPECT_EQ(files, (std::map<std::string, std::string>{{"tokenizer.json", "{\"a\": 1}"}}));
  world.barrier();
}

}  // namespace
}  // namespace moesaic
