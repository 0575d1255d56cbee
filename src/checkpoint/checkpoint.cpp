#include "moesaic/checkpoint/checkpoint.hpp"

#include <cstring>
#include <span>

#include "disk_space.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

std::span<const Block> ranges_of(const StateArray& array) {
  return {&array.elements, array.elements.empty() ? std::size_t{0} : std::size_t{1}};
}

void write_info(Hdf5File& file, const CheckpointInfo& info) {
  file.set_text("/", "program", "moesaic");
  file.set_integer("/", "format", CheckpointInfo::format);
  file.set_integer("/", "step", info.step);
  file.set_integer("/", "tokens", info.tokens);
  file.set_integer("/", "samples", info.samples);
  file.set_integer("/", "seed", static_cast<std::int64_t>(info.seed));
  file.set_text("/", "grid", info.grid);
  file.write_bytes("/deck", info.deck);
  file.write_bytes("/config", info.config);
}

void write_array(Hdf5File& file, const StateArray& array) {
  if (array.owner)
    file.write_flat(array.name, ranges_of(array), array.values);
  else
    file.write_flat(array.name, {}, array.values.rows(0, 0));
}

void check_program(const Hdf5File& file) {
  MOESAIC_VALIDATE(file.has_attribute("/", "program") && file.text("/", "program") == "moesaic",
                   "{} is not a checkpoint of moesaic (it has no such mark); name one from a checkpoints/ folder",
                   file.path().string());
  const std::int64_t format = file.integer("/", "format");
  MOESAIC_VALIDATE(
      format == CheckpointInfo::format,
      "{} has checkpoint format {} and this program reads format {}; use the version of moesaic that wrote it",
      file.path().string(), format, CheckpointInfo::format);
}

void check_array(const Hdf5File& file, const StateArray& array) {
  MOESAIC_VALIDATE(file.contains(array.name),
                   "{} holds no {} (the model or the balancing is another one); use the deck that wrote it",
                   file.path().string(), array.name);
  const Hdf5Array found = file.array(array.name);
  MOESAIC_VALIDATE(found.shape == shape_of(array.shape),
                   "{}: {} has shape {} where the model of this deck has {}; use the model.config that wrote it",
                   file.path().string(), array.name, to_text(found.shape), to_text(shape_of(array.shape)));
  MOESAIC_VALIDATE(found.type == stored(array.type),
                   "{}: {} is stored as {} where this deck has {}; set optimizer.moments as in the deck that wrote it",
                   file.path().string(), array.name, found.type ? name_of(*found.type) : "another type",
                   name_of(stored(array.type)));
}

int rank_in(MPI_Comm ranks) {
  int rank = 0;
  MPI_Comm_rank(ranks, &rank);
  return rank;
}

/// An upper bound of the file's size: large arrays begin at whole MiB, headers and attributes are small.
std::int64_t expected_bytes(const CheckpointInfo& info, const std::vector<StateArray>& state) {
  constexpr std::int64_t mebibyte = std::int64_t{1} << 20, header = 4096;
  std::int64_t bytes = mebibyte + static_cast<std::int64_t>(info.deck.size() + info.config.size());
  for (const StateArray& array : state) {
    const std::int64_t size = array.shape.size() * size_of(array.type);
    bytes += header + size + (size >= mebibyte ? mebibyte : 0);
  }
  return bytes;
}

/// Rank 0 reserves the space of `file`; every rank gets its errno. Collective.
int reserve_together(const fs::path& file, std::int64_t bytes, MPI_Comm ranks) {
  int error = rank_in(ranks) == 0 ? reserve_space(file, bytes) : 0;
  MPI_Bcast(&error, 1, MPI_INT, 0, ranks);
  return error;
}

[[noreturn]] void give_up(const fs::path& partial, std::int64_t bytes, int error, MPI_Comm ranks) {
  std::error_code ignored;
  if (rank_in(ranks) == 0) fs::remove(partial, ignored);
  throw AgreedRunError(fmt::format(
      "{} cannot be written ({}; it takes {}); earlier checkpoints are untouched: free some space, then run "
      "the same command again",
      partial.string(), std::strerror(error), format_bytes(bytes)));
}

/// All of the file's space is taken before any rank writes its part.
void write_file(const fs::path& partial, MPI_Comm ranks, const CheckpointInfo& info,
                const std::vector<StateArray>& state) {
  const std::int64_t bytes = expected_bytes(info, state);
  if (const int error = reserve_together(partial, bytes, ranks)) give_up(partial, bytes, error, ranks);
  Hdf5File file = Hdf5File::create(partial, ranks);
  write_info(file, info);
  for (const StateArray& array : state) file.create_array(array.name, array.type, shape_of(array.shape));
  file.flush();
  std::error_code unknown;
  const auto size = static_cast<std::int64_t>(fs::file_size(partial, unknown));
  if (const int error = reserve_together(partial, unknown ? bytes : size, ranks)) {
    file.close();
    give_up(partial, size, error, ranks);
  }
  for (const StateArray& array : state) write_array(file, array);
  file.sync();
  file.close();
}

}  // namespace

void save_checkpoint(const fs::path& path, MPI_Comm ranks, const CheckpointInfo& info,
                     const std::vector<StateArray>& state) {
  fs::path partial = path;
  partial += ".partial";
  write_file(partial, ranks, info, state);
  if (rank_in(ranks) == 0) fs::rename(partial, path);
  MPI_Barrier(ranks);
}

void check_checkpoint(const fs::path& path, const std::vector<StateArray>& state) {
  const Hdf5File file = Hdf5File::open_serial(path);
  check_program(file);
  for (const StateArray& array : state) check_array(file, array);
}

CheckpointInfo checkpoint_info(const Hdf5File& file) {
  check_program(file);
  return {.step = file.integer("/", "step"),
          .tokens = file.integer("/", "tokens"),
          .samples = file.integer("/", "samples"),
          .seed = static_cast<std::uint64_t>(file.integer("/", "seed")),
          .grid = file.text("/", "grid"),
          .deck = file.read_bytes("/deck"),
          .config = file.read_bytes("/config")};
}

CheckpointInfo read_checkpoint_info(const fs::path& path, MPI_Comm ranks) {
  Hdf5File file = Hdf5File::open(path, ranks);
  CheckpointInfo info = checkpoint_info(file);
  file.close();
  return info;
}

void load_checkpoint(const fs::path& path, MPI_Comm ranks, const std::vector<StateArray>& state) {
  Hdf5File file = Hdf5File::open(path, ranks);
  check_program(file);
  for (const StateArray& array : state) {
    check_array(file, array);
    file.read_flat(array.name, ranges_of(array), array.values);
  }
  file.close();
}

}  // namespace moesaic
