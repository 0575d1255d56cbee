// Write rate of a checkpoint on this disk, hashing and fsync included, against plain collective writes of the same bytes,
// and against HDF5's collective hyperslabs. One run measures all, in turns: disks are not the same from minute to minute.
// Then the rate of loading it, every hash compared, from the disk and from the page cache: on the cut that wrote it, and
// on one whose ranks share blocks of it.
//
//   mpirun -n RANKS checkpoint_benchmark [FOLDER [MiB [ROUNDS]]]      default: . 1024 3
//
// Each round writes one file each way and removes it. The last lines have the ratio of the medians.
#include <fcntl.h>
#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "moesaic/checkpoint/background_writer.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/io/input_file.hpp"

namespace {

using namespace moesaic;
namespace fs = std::filesystem;

/// Arrays as a model has them: many of a few MiB, cut over the ranks.
struct Content {
  static constexpr std::int64_t rows = 4096, columns = 2048;  // 32 MiB

  Content(std::int64_t mebibytes, Block mine) {
    const std::int64_t arrays = std::max<std::int64_t>(mebibytes / 32, 1);
    values.resize(static_cast<std::size_t>(arrays * mine.size()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 2654435761u % 16777213u);
    for (std::int64_t a = 0; a < arrays; ++a)
      state.push_back({.name = fmt::format("/parameters/array{:04}", a),
                       .type = DType::f32,
                       .shape = {rows, columns},
                       .elements = mine,
                       .values = host_view(values.data() + a * mine.size(), {mine.size()})});
    bytes = arrays * rows * columns * 4;
  }
  std::vector<float> values;
  std::vector<StateArray> state;
  std::int64_t bytes = 0;
};

/// Each rank's bytes in one piece, as much as MPI-IO takes at once.
void write_plain(const fs::path& path, const Content& content, int rank) {
  constexpr std::int64_t most = std::int64_t{256} << 20;
  const auto mine = static_cast<std::int64_t>(content.values.size()) * 4;
  std::int64_t largest = 0;
  MPI_Allreduce(&mine, &largest, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
  MPI_File file = MPI_FILE_NULL;
  MPI_File_open(MPI_COMM_WORLD, path.c_str(), MPI_MODE_CREATE | MPI_MODE_WRONLY, MPI_INFO_NULL, &file);
  for (std::int64_t at = 0; at < largest; at += most) {
    const std::int64_t part = std::clamp<std::int64_t>(mine - at, 0, most);
    MPI_File_write_at_all(file, rank * largest + at, reinterpret_cast<const char*>(content.values.data()) + at,
                          static_cast<int>(part), MPI_BYTE, MPI_STATUS_IGNORE);
  }
  MPI_File_sync(file);
  MPI_File_close(&file);
}

void write_hyperslabs(const fs::path& path, const Content& content) {
  Hdf5File file = Hdf5File::create(path, MPI_COMM_WORLD);
  for (const StateArray& array : content.state) file.create_array(array.name, array.type, shape_of(array.shape));
  for (const StateArray& array : content.state) file.write_flat(array.name, {&array.elements, 1}, array.values);
  file.sync();
  file.close();
}

/// MiB a second of `work`, from the moment when all begin to that when all are done.
double rate_of(std::int64_t bytes, const std::function<void()>& work) {
  MPI_Barrier(MPI_COMM_WORLD);
  const auto began = std::chrono::steady_clock::now();
  work();
  MPI_Barrier(MPI_COMM_WORLD);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  return static_cast<double>(bytes) / 1048576 / took.count();
}

void remove_file(const fs::path& path, int rank) {
  if (rank == 0) fs::remove(path);
  MPI_Barrier(MPI_COMM_WORLD);
}

/// Takes the file out of the page cache, where it is clean.
void forget(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY);
  posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  close(file);
}

/// MiB a second of loading `path` into `content`: from the disk, then from the page cache.
std::array<double, 2> load_rates(const fs::path& path, const Content& content, int rank) {
  if (rank == 0) forget(path);
  std::array<double, 2> rates{};
  for (double& rate : rates)
    rate = rate_of(content.bytes, [&] { load_checkpoint(path, MPI_COMM_WORLD, content.state, host_stream); });
  return rates;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure_saves(const fs::path& path, const Content& content, const std::function<void()>& save, int rounds,
                   int rank) {
  std::vector<double> plain, slabs, saved;
  const auto add = [&](std::vector<double>& rates, const std::function<void()>& write) {
    rates.push_back(rate_of(content.bytes, write));
    remove_file(path, rank);
  };
  for (int round = 0; round < rounds; ++round) {
    add(plain, [&] { write_plain(path, content, rank); });
    add(slabs, [&] { write_hyperslabs(path, content); });
    add(saved, save);
    if (rank == 0)
      fmt::print("round {}: plain collective {:.0f} MiB/s, HDF5 collective {:.0f} MiB/s, checkpoint {:.0f} MiB/s\n",
                 round, plain.back(), slabs.back(), saved.back());
  }
  if (rank == 0)
    fmt::print(
        "{} MiB, medians of {}: plain {:.0f}, HDF5 {:.0f}, checkpoint {:.0f} MiB/s; checkpoint is {:.0f} % of plain\n",
        content.bytes >> 20, rounds, median(plain), median(slabs), median(saved), 100 * median(saved) / median(plain));
}

void measure_loads(const fs::path& path, const char* cut, const Content& content, int rounds, int rank) {
  std::vector<double> cold, warm;
  for (int round = 0; round < rounds; ++round) {
    const auto [from_disk, from_cache] = load_rates(path, content, rank);
    cold.push_back(from_disk);
    warm.push_back(from_cache);
  }
  if (rank == 0)
    fmt::print("loading on {}, medians of {}: from the disk {:.0f} MiB/s, from the page cache {:.0f} MiB/s\n", cut,
               rounds, median(cold), median(warm));
}

void measure(const fs::path& folder, std::int64_t mebibytes, int rounds, int rank, int size) {
  const fs::path path = folder / "checkpoint-benchmark.h5";
  const CheckpointInfo info{.step = 1, .grid = "", .version = "", .deck = "", .config = ""};
  constexpr std::int64_t elements = Content::rows * Content::columns, shift = 300'001;
  const Block mine = block_of(elements, size, rank);
  {
    const Content content(mebibytes, mine);
    const auto save = [&] { save_checkpoint(path, MPI_COMM_WORLD, info, content.state); };
    measure_saves(path, content, save, rounds, rank);
    save();
    measure_loads(path, "the same cut", content, rounds, rank);
  }
  const Block shifted{rank == 0 ? 0 : mine.begin + shift, rank == size - 1 ? elements : mine.end + shift};
  measure_loads(path, "another cut", Content(mebibytes, shifted), rounds, rank);
  remove_file(path, rank);
}

}  // namespace

int main(int argc, char** argv) {
  const MpiSession session;
  const fs::path folder = argc > 1 ? argv[1] : ".";
  const std::int64_t mebibytes = argc > 2 ? std::atoll(argv[2]) : 1024;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  measure(folder, mebibytes, rounds, session.rank(), session.size());
  return 0;
}
