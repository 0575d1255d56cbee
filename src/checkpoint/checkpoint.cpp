// Reading: what a checkpoint says, and its arrays on any grid.
#include "moesaic/checkpoint/checkpoint.hpp"

#include "file_index.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/io/input_file.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// The array of the file that holds `wanted`.
const PlacedArray& checked_array(const fs::path& path, const FileIndex& index, const StateArray& wanted) {
  const PlacedArray* found = index.find(wanted.name);
  MOESAIC_VALIDATE(found != nullptr,
                   "{} holds no {} (the model or the balancing is another one); use the deck that wrote it",
                   path.string(), wanted.name);
  MOESAIC_VALIDATE(found->shape == shape_of(wanted.shape),
                   "{}: {} has shape {} where the model of this deck has {}; use the model.config that wrote it",
                   path.string(), wanted.name, to_text(found->shape), to_text(shape_of(wanted.shape)));
  MOESAIC_VALIDATE(found->type == stored(wanted.type),
                   "{}: {} is stored as {} where this deck has {}; set optimizer.moments as in the deck that wrote it",
                   path.string(), wanted.name, name_of(found->type), name_of(stored(wanted.type)));
  return *found;
}

void read_values(const InputFile& file, const PlacedArray& from, const StateArray& array, Stream stream) {
  if (array.elements.empty()) return;
  const Block bytes = from.bytes(array.elements);
  if (array.values.device() == DeviceKind::cpu) {
    file.read_at(bytes.begin, array.values.raw(), bytes.size());
    return;
  }
  std::vector<std::byte> host(static_cast<std::size_t>(bytes.size()));
  file.read_at(bytes.begin, host.data(), bytes.size());
  upload(stream, ConstView(host.data(), array.type, DeviceKind::cpu, {array.elements.size()}), array.values);
}

void refuse_damage(const fs::path& path, const Verification& verification) {
  MOESAIC_VALIDATE(
      verification.intact(), "{} is damaged: {}{}; use another checkpoint", path.string(),
      describe(verification.damages.front()),
      verification.damages.size() == 1 ? "" : fmt::format(", and {} more blocks", verification.damages.size() - 1));
}

}  // namespace

void check_checkpoint(const fs::path& path, const std::vector<StateArray>& state) {
  const FileIndex index = read_index(path);
  for (const StateArray& array : state) checked_array(path, index, array);
}

CheckpointInfo read_checkpoint_info(const fs::path& path, MPI_Comm ranks) {
  Arena scratch(host_memory());
  MpiCommunicator communicator(MpiHandle::duplicate(ranks), scratch);
  CheckpointInfo info;
  FileIndex index = read_index(path, communicator);
  together(communicator, [&] {
    if (communicator.rank() == 0) info = checkpoint_info(Hdf5File::open_serial(path));
  });
  index.info.deck = broadcast_text(communicator, info.deck, 0);
  index.info.config = broadcast_text(communicator, info.config, 0);
  return index.info;
}

void load_checkpoint(const fs::path& path, MPI_Comm ranks, const std::vector<StateArray>& state, Verify verify,
                     Stream stream) {
  Arena scratch(host_memory());
  MpiCommunicator communicator(MpiHandle::duplicate(ranks), scratch);
  const FileIndex index = read_index(path, communicator);
  together(communicator, [&] {
    for (const StateArray& array : state) checked_array(path, index, array);
  });
  if (verify == Verify::yes) refuse_damage(path, verify_checkpoint(path, communicator));
  together(communicator, [&] {
    const InputFile file(path);
    for (const StateArray& array : state) read_values(file, checked_array(path, index, array), array, stream);
  });
}

}  // namespace moesaic
