#include "moesaic/checkpoint/checkpoint.hpp"

#include <span>

#include "moesaic/base/contract.hpp"
#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {
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
  file.create_array(array.name, array.type, shape_of(array.shape));
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
  MOESAIC_VALIDATE(format == CheckpointInfo::format,
                   "{} has checkpoint format {} and this program reads format {}; use the version of moesaic that wrote it",
                   file.path().string(), format, CheckpointInfo::format);
}

void check_array(const Hdf5File& file, const StateArray& array) {
  MOESAIC_VALIDATE(file.contains(array.name),
                   "{} holds no {} (the model or the balancing is another one); use the deck that wrote it",
                   file.path().string(), array.name);
  const Hdf5Array found = file.array(array.name);
  MOESAIC_VALIDATE(found.shape == shape_of(array.shape),
                   "{}: {} has {} elements where the model of this deck has {}; use the model.config that wrote it",
                   file.path().string(), array.name, found.size(), array.shape.size());
  MOESAIC_VALIDATE(found.type == stored(array.type),
                   "{}: {} is stored as {} where this deck has {}; set optimizer.moments as in the deck that wrote it",
                   file.path().string(), array.name, found.type ? name_of(*found.type) : "another type",
                   name_of(array.type));
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, MPI_Comm ranks, const CheckpointInfo& info,
                     const std::vector<StateArray>& state) {
  std::filesystem::path partial = path;
  partial += ".partial";
  Hdf5File file = Hdf5File::create(partial, ranks);
  write_info(file, info);
  for (const StateArray& array : state) write_array(file, array);
  file.sync();
  file.close();
  int rank = 0;
  MPI_Comm_rank(ranks, &rank);
  if (rank == 0) std::filesystem::rename(partial, path);
  MPI_Barrier(ranks);
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

CheckpointInfo read_checkpoint_info(const std::filesystem::path& path, MPI_Comm ranks) {
  Hdf5File file = Hdf5File::open(path, ranks);
  CheckpointInfo info = checkpoint_info(file);
  file.close();
  return info;
}

void load_checkpoint(const std::filesystem::path& path, MPI_Comm ranks, const std::vector<StateArray>& state) {
  Hdf5File file = Hdf5File::open(path, ranks);
  check_program(file);
  for (const StateArray& array : state) {
    check_array(file, array);
    file.read_flat(array.name, ranges_of(array), array.values);
  }
  file.close();
}

}  // namespace moesaic
