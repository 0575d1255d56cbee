#include "exported_tensors.hpp"

#include <algorithm>

#include "model_arrays.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/checkpoint/extra_arrays.hpp"
#include "moesaic/checkpoint/piece_groups.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t elements_at_once = std::int64_t{1} << 22;

/// Elements of an array of the checkpoint, as they are stored.
template <class T> void read_array(const Hdf5File& file, const std::string& name, Block elements, std::vector<T>& out) {
  out.resize(static_cast<std::size_t>(elements.size()));
  file.read_flat(name, {&elements, 1}, host_view(out.data(), {elements.size()}));
}

void read_piece(const Hdf5File& file, const HfPiece& piece, StorageType type, const TakeBytes& take) {
  const std::int64_t row = row_size(piece), size = size_of(type);
  std::vector<float> covered, values;
  std::vector<char> bytes;
  for (const PieceGroup& group : groups_of(piece, elements_at_once)) {
    read_array(file, array_of(piece), group.covered, covered);
    const std::int64_t count = group.rows.size() * row;
    values.resize(static_cast<std::size_t>(count));
    for_each_element(piece, group.rows, [&](std::int64_t i, std::int64_t at) {
      values[static_cast<std::size_t>(i)] = covered[static_cast<std::size_t>(at - group.covered.begin)];
    });
    bytes.resize(static_cast<std::size_t>(count * size));
    convert_back(type, values.data(), count, bytes.data());
    take(group.rows.begin * row * size, bytes.data(), count * size);
  }
}

/// Extra tensors lie in the checkpoint with their own type, or as bytes where memory has none such.
void read_stored_bytes(const Hdf5File& file, const std::string& array, Block elements, std::int64_t size,
                       std::vector<char>& bytes) {
  const Hdf5Array found = file.array(array);
  const DType type = [&] {
    for (const DType candidate : {DType::f32, DType::bf16, DType::f64, DType::i64, DType::i32})
      if (found.type == stored(candidate)) return candidate;
    return DType::u8;
  }();
  const std::int64_t of_file = size / size_of(type);
  const Block range{elements.begin * of_file, elements.end * of_file};
  bytes.resize(static_cast<std::size_t>(elements.size() * size));
  file.read_flat(array, {&range, 1}, View(bytes.data(), type, DeviceKind::cpu, {range.size()}));
}

void read_extra(const Hdf5File& file, const HfExtraTensor& tensor, StorageType type, const TakeBytes& take) {
  const std::int64_t count = element_count(tensor.shape).value_or(0), size = size_of(tensor.type);
  std::vector<char> bytes, converted;
  std::vector<float> numbers;
  for (std::int64_t done = 0; done < count; done += elements_at_once) {
    const std::int64_t now = std::min(elements_at_once, count - done);
    read_stored_bytes(file, std::string(ExtraArrays::group) + tensor.array, {done, done + now}, size, bytes);
    if (type == tensor.type) {
      take(done * size, bytes.data(), now * size);
      continue;
    }
    numbers.resize(static_cast<std::size_t>(now));
    convert(tensor.type, bytes.data(), now, numbers.data());
    converted.resize(static_cast<std::size_t>(now * size_of(type)));
    convert_back(type, numbers.data(), now, converted.data());
    take(done * size_of(type), converted.data(), std::ssize(converted));
  }
}

Shape shape_of_tensor(const HfPiece& piece) { return shape_of(piece.whole.rank() > 0 ? piece.whole : piece.shape); }

}  // namespace

std::vector<ExportedTensor> exported_tensors(const std::vector<HfPiece>& pieces, const HfManifest& manifest,
                                             const ExportRequest& request) {
  std::vector<ExportedTensor> tensors;
  for (const HfPiece& piece : pieces) {
    if (piece.copy && manifest.absent.contains(piece.tensor)) continue;
    const StorageType imported = manifest.type_of(piece.tensor);
    const StorageType type = is_state(piece) ? imported : request.type.value_or(imported);
    tensors.push_back({{piece.tensor, type, shape_of_tensor(piece)}, &piece, nullptr});
  }
  for (const HfExtraTensor& extra : manifest.extra) {
    const StorageType type = converts_to<float>(extra.type) ? request.type.value_or(extra.type) : extra.type;
    tensors.push_back({{extra.name, type, extra.shape}, nullptr, &extra});
  }
  return tensors;
}

void read_exported(const Hdf5File& file, const ExportedTensor& tensor, const TakeBytes& take) {
  if (tensor.entry.bytes() == 0) return;
  if (tensor.piece != nullptr)
    read_piece(file, *tensor.piece, tensor.entry.type, take);
  else
    read_extra(file, *tensor.extra, tensor.entry.type, take);
}

}  // namespace moesaic
