// Loading: every rank reads its part of each array, block by block, and compares the hashes as it reads.
#include <cstring>

#include "damage.hpp"
#include "file_index.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
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

/// A block of which a rank has only a part is read whole by the one that holds this element, who compares its hash. It is
/// taken from the hash, so that this work is spread over the ranks.
std::int64_t judged_by(const HashedBlock& block) {
  return block.elements.begin +
         static_cast<std::int64_t>(block.hash % static_cast<std::uint64_t>(block.elements.size()));
}

/// One rank's reading of a checkpoint.
class Reading {
 public:
  Reading(const fs::path& path, const FileIndex& index, Stream stream, const std::function<void()>& alive)
      : file_(path), index_(index), stream_(stream), alive_(alive) {}

  void read(const StateArray& array) {
    if (array.elements.empty()) return;
    const PlacedArray& from = checked_array(file_.path(), index_, array);
    const std::int64_t number = &from - index_.arrays.data();
    if (index_.format == 1) return read_unhashed(array, from, number);
    const Block numbers = blocks_of_array(index_.blocks, number);
    for (std::int64_t i = numbers.begin; i < numbers.end; ++i)
      if (!read_part(array, from, index_.blocks[static_cast<std::size_t>(i)])) damaged_.push_back(i);
  }

  /// Numbers of the blocks that differ.
  const std::vector<std::int64_t>& damaged() const { return damaged_; }

 private:
  void read_unhashed(const StateArray& array, const PlacedArray& from, std::int64_t number) {
    for (const HashedBlock& block : cut_into_blocks(number, array.elements, from.width())) {
      const Destination to = destination(array, block.elements, block.elements, from.width());
      file_.read_at(from.bytes(block.elements).begin, to.bytes, from.bytes(block.elements).size());
      put(array, block.elements, to);
      alive_();
    }
  }

  /// False when the block differs.
  bool read_part(const StateArray& array, const PlacedArray& from, const HashedBlock& block) {
    const Block part = intersection(block.elements, array.elements);
    if (part.empty()) return true;
    const bool judges = array.elements.contains(judged_by(block));
    const Block wanted = judges ? block.elements : part;
    const Destination to = destination(array, wanted, part, from.width());
    const Block place = from.bytes(wanted);
    alive_();
    if (!(judges ? read_block(file_, place, block.hash, to.bytes) : read_bytes(file_, place, to.bytes))) return false;
    put(array, part, to);
    return true;
  }

  /// Where bytes go that are read, and those of the part that this rank holds.
  struct Destination {
    std::byte* bytes;
    const std::byte* part;
  };

  /// Straight to the values where all of `read` is this rank's, and in host memory.
  Destination destination(const StateArray& array, Block read, Block part, std::int64_t width) {
    if (read == part && array.values.device() == DeviceKind::cpu) {
      auto* values = static_cast<std::byte*>(array.values.raw()) + (part.begin - array.elements.begin) * width;
      return {values, values};
    }
    buffer_.resize(static_cast<std::size_t>(read.size() * width));
    return {buffer_.data(), buffer_.data() + (part.begin - read.begin) * width};
  }

  void put(const StateArray& array, Block part, const Destination& from) {
    const View values = array.values.rows(part.begin - array.elements.begin, part.end - array.elements.begin);
    if (from.part == values.raw() && values.device() == DeviceKind::cpu) return;
    const Stream stream = values.device() == DeviceKind::cpu ? host_stream : stream_;
    upload(stream, ConstView(from.part, array.type, DeviceKind::cpu, {part.size()}), values);
  }

  InputFile file_;
  const FileIndex& index_;
  Stream stream_;
  const std::function<void()>& alive_;
  std::vector<std::byte> buffer_;
  std::vector<std::int64_t> damaged_;
};

/// Reads `mine` on this rank. Collective.
void read_together(const fs::path& path, const FileIndex& index, Communicator& ranks,
                   const std::vector<StateArray>& mine, Stream stream, const std::function<void()>& alive) {
  std::vector<std::int64_t> damaged;
  together(ranks, [&] {
    Reading reading(path, index, stream, alive);
    for (const StateArray& array : mine) reading.read(array);
    damaged = reading.damaged();
  });
  refuse_damages(path, damages_of(index, united(ranks, damaged)));
}

/// A text of the file, to be read into `text`.
StateArray text_array(const FileIndex& index, const char* name, std::string& text) {
  const PlacedArray* found = index.find(name);
  text.resize(found == nullptr ? 0 : static_cast<std::size_t>(found->size()));
  const auto size = static_cast<std::int64_t>(text.size());
  return {.name = name,
          .type = DType::u8,
          .shape = {size},
          .elements = {0, size},
          .values = host_view(reinterpret_cast<std::uint8_t*>(text.data()), {size})};
}

}  // namespace

void check_checkpoint(const fs::path& path, const std::vector<StateArray>& state) {
  const FileIndex index = read_index(path);
  for (const StateArray& array : state) checked_array(path, index, array);
}

CheckpointInfo read_checkpoint_info(const fs::path& path, MPI_Comm ranks) {
  Arena scratch(host_memory());
  MpiCommunicator communicator(MpiHandle::duplicate(ranks), scratch);
  const FileIndex index = read_index(path, communicator);
  refuse_damages(path, flaws_of(index));
  CheckpointInfo info = index.info;
  std::vector<StateArray> texts;
  if (communicator.rank() == 0)
    texts = {text_array(index, deck_array, info.deck), text_array(index, config_array, info.config)};
  read_together(path, index, communicator, texts, host_stream, [] {});
  info.deck = broadcast_text(communicator, info.deck, 0);
  info.config = broadcast_text(communicator, info.config, 0);
  return info;
}

void load_checkpoint(const fs::path& path, MPI_Comm ranks, const std::vector<StateArray>& state, Stream stream,
                     const std::function<void()>& alive) {
  Arena scratch(host_memory());
  MpiCommunicator communicator(MpiHandle::duplicate(ranks), scratch);
  const FileIndex index = read_index(path, communicator);
  together(communicator, [&] {
    for (const StateArray& array : state) checked_array(path, index, array);
  });
  refuse_damages(path, flaws_of(index));
  if (index.format == 1 && communicator.rank() == 0)
    log_line("{} is of format 1, without hashes: its content is taken as it is; the next one will have them",
             path.string());
  read_together(path, index, communicator, state, stream, alive);
}

}  // namespace moesaic
