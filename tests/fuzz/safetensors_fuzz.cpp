// Any bytes as model.safetensors: they are read or refused with an InputError, and nothing larger than twice them is allocated.
#include <algorithm>
#include <array>

#include "bounded.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/hf_tensor.hpp"

namespace moesaic {
namespace {

/// The first and the last elements of each tensor, dequantised where it is quantised.
void read_some(const SafetensorsFolder& folder) {
  std::array<float, 64> out{};
  for (const HfTensor& tensor : hf_tensors(folder)) {
    if (!converts_to<float>(tensor.type)) continue;
    const std::int64_t count = std::min<std::int64_t>(tensor.size(), std::ssize(out));
    read_hf_tensor(folder, tensor, {0, count}, out.data());
    read_hf_tensor(folder, tensor, {tensor.size() - count, tensor.size()}, out.data());
  }
}

}  // namespace
}  // namespace moesaic

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moesaic;
  static const std::filesystem::path folder = [] {
    std::string name = (std::filesystem::temp_directory_path() / "moesaic-fuzz-XXXXXX").string();
    return std::filesystem::path(::mkdtemp(name.data()));
  }();
  const fuzz::MemoryFile file(data, size);
  std::filesystem::remove(folder / "model.safetensors");
  std::filesystem::create_symlink(file.path(), folder / "model.safetensors");
  const fuzz::Bound bound(size);
  try {
    read_some(SafetensorsFolder(folder));
  } catch (const InputError&) {
  }
  return 0;
}
