#include "moesaic/tensor/readings.hpp"

#include <cstring>

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

ConstView bytes_of(const ConstView& view) { return {view.raw(), DType::u8, view.device(), {view.bytes()}}; }

}  // namespace

void Readings::add(ConstView device, View host) {
  MOESAIC_EXPECT(device.contiguous() && host.contiguous());
  MOESAIC_EXPECT(device.size() == host.size() && device.dtype() == host.dtype());
  readings_.push_back({device, host});
}

void Readings::read() {
  std::int64_t all = 0;
  for (const Reading& reading : readings_) all += reading.host.bytes();
  const Tensor packed = arena_->tensor(DType::u8, {all}, Label::workspace);
  std::int64_t at = 0;
  for (const Reading& reading : readings_) {
    const std::int64_t end = at + reading.host.bytes();
    copy_within(stream_, bytes_of(reading.device), packed.view().rows(at, end));
    at = end;
  }
  std::vector<char> on_host(static_cast<std::size_t>(all));
  download(stream_, packed, View(on_host.data(), DType::u8, DeviceKind::cpu, {all}));
  const char* from = on_host.data();
  for (const Reading& reading : readings_) {
    std::memcpy(reading.host.raw(), from, static_cast<std::size_t>(reading.host.bytes()));
    from += reading.host.bytes();
  }
  readings_.clear();
}

}  // namespace moesaic
