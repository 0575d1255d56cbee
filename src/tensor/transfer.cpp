#include "moesaic/tensor/transfer.hpp"

#include <cstring>

#ifdef MOESAIC_CUDA
#include "moesaic/tensor/cuda_memory.hpp"
#endif

namespace moesaic {
namespace {

void copy_on_host(ConstView from, View to) {
  MOESAIC_EXPECT(from.contiguous() && to.contiguous());
  MOESAIC_EXPECT(from.size() == to.size() && from.dtype() == to.dtype());
  MOESAIC_EXPECT(from.device() == DeviceKind::cpu && to.device() == DeviceKind::cpu);
  if (from.size() > 0) std::memcpy(to.raw(), from.raw(), static_cast<std::size_t>(from.bytes()));
}

}  // namespace

#ifdef MOESAIC_CUDA

void upload(Stream stream, ConstView host, View device) {
  if (stream.device == DeviceKind::cpu) return copy_on_host(host, device);
  copy_to_device(stream, host, device);
}

void download(Stream stream, ConstView device, View host) {
  if (stream.device == DeviceKind::cpu) return copy_on_host(device, host);
  copy_to_host(stream, device, host);
  synchronise(stream);
}

void copy_within(Stream stream, ConstView from, View to) {
  if (stream.device == DeviceKind::cpu) return copy_on_host(from, to);
  copy_on_device(stream, from, to);
}

void wait_for(Stream stream) {
  if (stream.device == DeviceKind::cuda) synchronise(stream);
}

#else

void upload(Stream, ConstView host, View device) { copy_on_host(host, device); }
void download(Stream, ConstView device, View host) { copy_on_host(device, host); }
void copy_within(Stream, ConstView from, View to) { copy_on_host(from, to); }
void wait_for(Stream) {}

#endif

}  // namespace moesaic
