// Write rate of a checkpoint on this disk, hashing and fsync included, against plain collective writes of the same bytes,
// and against HDF5's collective hyperslabs. One run measures all, in turns: disks are not the same from minute to minute.
//
//   mpirun -n RANKS checkpoint_benchmark [FOLDER [MiB [ROUNDS]]]      default: . 1024 3
//
// Each round writes one file each way and removes it. The last line has the ratio of the medians.
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
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
  Content(std::int64_t mebibytes, int rank, int size) {
    constexpr std::int64_t rows = 4096, columns = 2048;  // 32 MiB
    const std::int64_t arrays = std::max<std::int64_t>(mebibytes / 32, 1);
    const Block mine = block_of(rows * columns, size, rank);
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

/// MiB a second of `write`, from the moment when all begin to that when all are done.
double rate_of(const fs::path& path, std::int64_t bytes, const std::function<void()>& write) {
  MPI_Barrier(MPI_COMM_WORLD);
  const auto began = std::chrono::steady_clock::now();
  write();
  MPI_Barrier(MPI_COMM_WORLD);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) fs::remove(path);
  MPI_Barrier(MPI_COMM_WORLD);
  return static_cast<double>(bytes) / 1048576 / took.count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const fs::path& folder, std::int64_t mebibytes, int rounds, int rank, int size) {
  const Content content(mebibytes, rank, size);
  const fs::path path = folder / "checkpoint-benchmark.h5";
  const CheckpointInfo info{.step = 1, .grid = "", .version = "", .deck = "", .config = ""};
  const auto save = [&] { save_checkpoint(path, MPI_COMM_WORLD, info, content.state); };
  std::vector<double> plain, slabs, saved;
  for (int round = 0; round < rounds; ++round) {
    plain.push_back(rate_of(path, content.bytes, [&] { write_plain(path, content, rank); }));
    slabs.push_back(rate_of(path, content.bytes, [&] { write_hyperslabs(path, content); }));
    saved.push_back(rate_of(path, content.bytes, save));
    if (rank == 0)
      fmt::print("round {}: plain collective {:.0f} MiB/s, HDF5 collective {:.0f} MiB/s, checkpoint {:.0f} MiB/s\n",
                 round, plain.back(), slabs.back(), saved.back());
  }
  if (rank == 0)
    fmt::print(
        "{} MiB on {} ranks, medians of {}: plain {:.0f}, HDF5 {:.0f}, checkpoint {:.0f} MiB/s; checkpoint is "
        "{:.0f} % of plain\n",
        content.bytes >> 20, size, rounds, median(plain), median(slabs), median(saved),
        100 * median(saved) / median(plain));
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
