#include "moesaic/tensor/transfer.hpp"

#include <cstring>

#ifdef MOESAIC_CUDA
#include "moesaic/tensor/cuda_memory.hpp"
#include "moesaic/tensor/timeline.hpp"
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

namespace {

/// In the timeline.
TimedSpan transfer_span(Stream stream, const char* name, const ConstView& values) {
  return TimedSpan(SpanKind::transfer, stream, [&] {
    return SpanText{name, "", {0, static_cast<double>(values.bytes())}};
  });
}

}  // namespace

void upload(Stream stream, ConstView host, View device) {
  if (stream.device == DeviceKind::cpu) return copy_on_host(host, device);
  const TimedSpan span = transfer_span(stream, "upload", host);
  copy_to_device(stream, host, device);
}

void begin_download(Stream stream, ConstView device, View host) {
  if (stream.device == DeviceKind::cpu) return copy_on_host(device, host);
  const TimedSpan span = transfer_span(stream, "download", device);
  copy_to_host(stream, device, host);
}

void download(Stream stream, ConstView device, View host) {
  begin_download(stream, device, host);
  wait_for(stream);
}

void copy_within(Stream stream, ConstView from, View to) {
  if (stream.device == DeviceKind::cpu) return copy_on_host(from, to);
  const TimedSpan span = transfer_span(stream, "copy_within", from);
  copy_on_device(stream, from, to);
}

void wait_for(Stream stream) {
  if (stream.device == DeviceKind::cpu) return;
  const TimedSpan span(SpanKind::wait, host_stream, [] { return SpanText{"wait for the device"}; });
  synchronise(stream);
}

#else

void upload(Stream, ConstView host, View device) { copy_on_host(host, device); }
void begin_download(Stream, ConstView device, View host) { copy_on_host(device, host); }
void download(Stream, ConstView device, View host) { copy_on_host(device, host); }
void copy_within(Stream, ConstView from, View to) { copy_on_host(from, to); }
void wait_for(Stream) {}

#endif

}  // namespace moesaic
