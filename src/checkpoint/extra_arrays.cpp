#include "moesaic/checkpoint/extra_arrays.hpp"

#include "file_index.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_communicator.hpp"

namespace moesaic {
namespace {

/// The type in memory of an array that is carried unread.
DType memory_type(const std::string& path, const PlacedArray& array) {
  for (DType type : {DType::f64, DType::f32, DType::bf16, DType::i64, DType::i32, DType::u8})
    if (stored(type) == array.type) return type;
  throw InputError(
      fmt::format("{}: {} is stored as {} (extra arrays are F64, F32, BF16, I64, I32 or U8); import the "
                  "folder again",
                  path, array.name, name_of(array.type)));
}

Extents extents_of(const std::string& path, const PlacedArray& array) {
  MOESAIC_VALIDATE(std::ssize(array.shape) <= Extents::max_rank,
                   "{}: {} has the shape {} (four dimensions at most); "
                   "import the folder again",
                   path, array.name, to_text(array.shape));
  switch (array.shape.size()) {
    case 0: return {};
    case 1: return {array.shape[0]};
    case 2: return {array.shape[0], array.shape[1]};
    case 3: return {array.shape[0], array.shape[1], array.shape[2]};
    default: return {array.shape[0], array.shape[1], array.shape[2], array.shape[3]};
  }
}

}  // namespace

void ExtraArrays::add(std::string_view name, DType type, Extents shape, Block elements, std::vector<std::byte> bytes) {
  MOESAIC_EXPECT(std::ssize(bytes) == elements.size() * size_of(type));
  bytes_.push_back(std::move(bytes));
  arrays_.push_back({.name = std::string(group) + std::string(name),
                     .type = type,
                     .shape = shape,
                     .elements = elements,
                     .values = View(bytes_.back().data(), type, DeviceKind::cpu, {elements.size()}),
                     .owner = true});
}

void ExtraArrays::add_file(std::string_view name, std::string_view bytes, bool first_rank) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  const auto span = std::as_bytes(std::span(bytes.data(), first_rank ? bytes.size() : 0));
  add(std::string(files_group.substr(group.size())) + std::string(name), DType::u8, {size}, {0, first_rank ? size : 0},
      {span.begin(), span.end()});
}

ExtraArrays ExtraArrays::load(const std::filesystem::path& path, MPI_Comm ranks) {
  Arena scratch(host_memory());
  MpiCommunicator communicator(MpiHandle::duplicate(ranks), scratch);
  ExtraArrays extra;
  for (const PlacedArray& array : read_index(path, communicator).arrays) {
    if (!array.name.starts_with(group)) continue;
    const DType type = memory_type(path.string(), array);
    const Block mine = block_of(array.size(), communicator.size(), communicator.rank());
    extra.add(array.name.substr(group.size()), type, extents_of(path.string(), array), mine,
              std::vector<std::byte>(static_cast<std::size_t>(mine.size() * size_of(type))));
  }
  if (!extra.arrays().empty()) load_checkpoint(path, ranks, extra.arrays(), host_stream);
  return extra;
}

std::map<std::string, std::string> extra_files(const Hdf5File& file) {
  std::map<std::string, std::string> files;
  for (const Hdf5Array& array : file.arrays())
    if (array.name.starts_with(ExtraArrays::files_group))
      files[array.name.substr(ExtraArrays::files_group.size())] = file.read_bytes(array.name);
  return files;
}

}  // namespace moesaic
