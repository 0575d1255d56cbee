#include "state_copy.hpp"

#include <algorithm>

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
  capacity_ = taken_ = 0;
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

bool StateCopy::take_memory() {
  if (taken_ < capacity_) {
    taken_ = std::min(taken_ + transfer_granule, capacity_);
    source_->commit(data_, taken_);
  }
  return taken_ < capacity_;
}

/// In pieces that end where those of the pinned memory do.
void StateCopy::copy(Stream stream, View original, View to) {
  const std::int64_t width = size_of(to.dtype()), elements = to.size();
  const View flat(original.raw(), original.dtype(), original.device(), {elements});
  const std::int64_t at = static_cast<std::byte*>(to.raw()) - static_cast<std::byte*>(data_);
  for (std::int64_t begin = 0; begin < elements;) {
    const std::int64_t to_boundary = transfer_granule - (at + begin * width) % transfer_granule;
    const std::int64_t count = std::min(elements - begin, to_boundary / width);
    begin_download(stream, flat.rows(begin, begin + count), to.rows(begin, begin + count));
    begin += count;
  }
}

std::vector<StateArray> StateCopy::take(const std::vector<StateArray>& state, Stream stream) {
  reserve(state, stream.device);
  while (take_memory()) {
  }
  std::vector<StateArray> copies = state;
  auto* at = static_cast<std::byte*>(data_);
  for (StateArray& copied : copies) {
    const View original = copied.values;
    if (!copied.owner) copied.elements = {};
    copied.values = View(at, copied.type, DeviceKind::cpu, {copied.elements.size()});
    if (copied.elements.empty()) continue;
    copy(original.device() == DeviceKind::cpu ? host_stream : stream, original, copied.values);
    at += copied_bytes(copied);
  }
  wait_for(stream);
  return copies;
}

}  // namespace moesaic
