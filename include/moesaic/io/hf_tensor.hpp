#pragma once
/// The tensors of a Hugging Face folder as numbers, whether they are stored as such or quantised.

#include <optional>

#include "moesaic/grid/block.hpp"
#include "moesaic/io/safetensors.hpp"

namespace moesaic {

/// How the numbers of a tensor `name` are stored.
enum class HfEncoding : std::uint8_t {
  plain,
  fp8_blocks,  ///< `name` in F8_E4M3, `name`_scale_inv with a scale for 128 x 128 of it (DeepSeek-V3, Kimi K2)
  mxfp4,       ///< `name`_blocks and `name`_scales, both U8; `name` itself is not there (GPT-OSS)
};

/// A tensor under the name that a model knows.
struct HfTensor {
  std::string name;
  HfEncoding encoding = HfEncoding::plain;
  StorageType type = StorageType::f32;  ///< as it is stored; of a quantised one what it counts as: bf16
  Shape shape;                          ///< of the numbers

  std::int64_t size() const { return element_count(shape).value_or(0); }
};

/// Nothing when the folder has no such tensor, quantised or not. InputError when scales do not fit their tensor.
std::optional<HfTensor> find_hf_tensor(const SafetensorsFolder& folder, const std::string& name);

/// Every tensor in the order of names; scales and blocks of quantised ones count as parts of these.
std::vector<HfTensor> hf_tensors(const SafetensorsFolder& folder);

/// out [elements.size()] = those elements of the flattened tensor, dequantised (in f32, not rounded further). Beside `out`
/// it holds the bytes of these elements, or of the matrix that holds them in MXFP4.
void read_hf_tensor(const SafetensorsFolder& folder, const HfTensor& tensor, Block elements, float* out);

}  // namespace moesaic
