#include "state_copy.hpp"

#include "moesaic/tensor/transfer.hpp"
#include "moesaic/tensor/transfer_memory.hpp"

namespace moesaic {
namespace {

/// Bytes of the copy, in whole pieces of 64.
std::int64_t copied_bytes(const StateArray& array) {
  return array.owner ? (array.elements.size() * size_of(array.type) + 63) / 64 * 64 : 0;
}

}  // namespace

StateCopy::~StateCopy() { release(); }

void StateCopy::release() {
  if (data_ != nullptr) source_->release(data_, capacity_);
  data_ = nullptr;
  capacity_ = 0;
}

void StateCopy::reserve(const std::vector<StateArray>& state, DeviceKind device) {
  std::int64_t bytes = 0;
  for (const StateArray& array : state) bytes += copied_bytes(array);
  if (bytes <= capacity_) return;
  release();
  if (!source_) source_ = transfer_memory(device);
  data_ = source_->acquire(bytes);
  capacity_ = bytes;
}

std::vector<StateArray> StateCopy::take(const std::vector<StateArray>& state, Stream stream) {
  reserve(state, stream.device);
  std::vector<StateArray> copies = state;
  auto* at = static_cast<std::byte*>(data_);
  for (StateArray& copy : copies) {
    const View original = copy.values;
    if (!copy.owner) copy.elements = {};
    copy.values = View(at, copy.type, DeviceKind::cpu, {copy.elements.size()});
    if (copy.elements.empty()) continue;
    begin_download(original.device() == DeviceKind::cpu ? host_stream : stream, original, copy.values);
    at += copied_bytes(copy);
  }
  wait_for(stream);
  return copies;
}

}  // namespace moesaic
