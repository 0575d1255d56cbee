#include "moesaic/io/hf_tensor.hpp"

#include <algorithm>

#include "moesaic/base/contract.hpp"
#include "moesaic/io/quantised.hpp"

namespace moesaic {
namespace {

const std::string fp8_scales = "_scale_inv", mxfp4_blocks = "_blocks", mxfp4_scales = "_scales";

std::int64_t blocks_in(std::int64_t extent) { return extent / fp8_block + (extent % fp8_block == 0 ? 0 : 1); }

HfTensor fp8_tensor(const SafetensorsFolder& folder, const SafetensorsInfo& codes) {
  const SafetensorsInfo& scales = folder.find(codes.name + fp8_scales);
  MOESAIC_VALIDATE(
      codes.shape.size() == 2 && converts_to<float>(scales.type) &&
          scales.shape == (Shape{blocks_in(codes.shape[0]), blocks_in(codes.shape[1])}),
      "{}: {} is {} {} for {} of shape {} (one number for each block of 128 x 128 is needed); download the "
      "weights again",
      folder.path().string(), scales.name, name_of(scales.type), to_text(scales.shape), codes.name,
      to_text(codes.shape));
  return {codes.name, HfEncoding::fp8_blocks, StorageType::bf16, codes.shape};
}

HfTensor mxfp4_tensor(const SafetensorsFolder& folder, const std::string& name) {
  const SafetensorsInfo& blocks = folder.find(name + mxfp4_blocks);
  const SafetensorsInfo& scales = folder.find(name + mxfp4_scales);
  Shape expected = scales.shape;
  expected.push_back(mxfp4_group / 2);
  MOESAIC_VALIDATE(blocks.type == StorageType::u8 && scales.type == StorageType::u8 && scales.shape.size() == 3 &&
                       blocks.shape == expected && scales.size() > 0,
                   "{}: {} is {} {} and {} is {} {} (MXFP4 has 16 bytes U8 and one scale U8 for each 32 numbers); "
                   "download the weights again",
                   folder.path().string(), blocks.name, name_of(blocks.type), to_text(blocks.shape), scales.name,
                   name_of(scales.type), to_text(scales.shape));
  return {
      name, HfEncoding::mxfp4, StorageType::bf16, {scales.shape[0], scales.shape[2] * mxfp4_group, scales.shape[1]}};
}

bool is_mxfp4(const SafetensorsFolder& folder, const std::string& name) {
  return folder.contains(name + mxfp4_blocks) && folder.contains(name + mxfp4_scales) && !folder.contains(name);
}

/// The matrix's rows and columns: only the scales of its rows are read.
void read_fp8(const SafetensorsFolder& folder, const HfTensor& tensor, Block elements, float* out) {
  const std::int64_t columns = tensor.shape[1], scale_columns = blocks_in(columns);
  const std::int64_t first = elements.begin / columns / fp8_block, last = (elements.end - 1) / columns / fp8_block;
  std::vector<float> scales(static_cast<std::size_t>((last - first + 1) * scale_columns));
  folder.read_slice(tensor.name + fp8_scales, first * scale_columns, std::ssize(scales), scales.data());
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(elements.size()));
  folder.read_stored(tensor.name, elements.begin, elements.size(), codes.data());
  dequantise_fp8_blocks(codes.data(), elements, columns, scales.data(), first, out);
}

/// Matrix by matrix.
void read_mxfp4(const SafetensorsFolder& folder, const HfTensor& tensor, Block elements, float* out) {
  const std::int64_t rows = tensor.shape[2], groups = tensor.shape[1] / mxfp4_group, matrix = tensor.shape[1] * rows;
  std::vector<std::uint8_t> blocks(static_cast<std::size_t>(matrix / 2)),
      scales(static_cast<std::size_t>(rows * groups));
  for (std::int64_t i = elements.begin / matrix; i * matrix < elements.end; ++i) {
    folder.read_stored(tensor.name + mxfp4_blocks, i * matrix / 2, std::ssize(blocks), blocks.data());
    folder.read_stored(tensor.name + mxfp4_scales, i * rows * groups, std::ssize(scales), scales.data());
    const Block mine = intersection(elements, {i * matrix, (i + 1) * matrix});
    dequantise_mxfp4(blocks.data(), scales.data(), rows, groups, {mine.begin - i * matrix, mine.end - i * matrix},
                     out + (mine.begin - elements.begin));
  }
}

/// The name without `ending`; empty when it ends otherwise.
std::string without(const std::string& name, const std::string& ending) {
  return name.ends_with(ending) ? name.substr(0, name.size() - ending.size()) : "";
}

/// Whether `name` holds the scales of another tensor.
bool is_scales(const SafetensorsFolder& folder, const std::string& name) {
  const std::string codes = without(name, fp8_scales);
  if (!codes.empty() && folder.contains(codes) && folder.find(codes).type == StorageType::f8_e4m3) return true;
  const std::string base = without(name, mxfp4_scales);
  return !base.empty() && is_mxfp4(folder, base);
}

}  // namespace

std::optional<HfTensor> find_hf_tensor(const SafetensorsFolder& folder, const std::string& name) {
  if (!folder.contains(name)) return is_mxfp4(folder, name) ? std::optional(mxfp4_tensor(folder, name)) : std::nullopt;
  const SafetensorsInfo& info = folder.find(name);
  if (info.type == StorageType::f8_e4m3 && folder.contains(name + fp8_scales)) return fp8_tensor(folder, info);
  return HfTensor{name, HfEncoding::plain, info.type, info.shape};
}

std::vector<HfTensor> hf_tensors(const SafetensorsFolder& folder) {
  std::vector<HfTensor> tensors;
  for (const std::string& name : folder.names()) {
    if (is_scales(folder, name)) continue;
    const std::string base = without(name, mxfp4_blocks);
    tensors.push_back(*find_hf_tensor(folder, !base.empty() && is_mxfp4(folder, base) ? base : name));
  }
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return tensors;
}

void read_hf_tensor(const SafetensorsFolder& folder, const HfTensor& tensor, Block elements, float* out) {
  if (elements.empty()) return;
  switch (tensor.encoding) {
    case HfEncoding::plain: return folder.read_slice(tensor.name, elements.begin, elements.size(), out);
    case HfEncoding::fp8_blocks: return read_fp8(folder, tensor, elements, out);
    case HfEncoding::mxfp4: return read_mxfp4(folder, tensor, elements, out);
  }
}

}  // namespace moesaic
