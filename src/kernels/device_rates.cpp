#include "moesaic/kernels/device_rates.hpp"

#include <algorithm>
#include <limits>

#include "moesaic/tensor/stream_clock.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

/// The shortest of a few runs, after one that warms up.
template <class Run> double seconds_of(Stream stream, Run&& run) {
  constexpr int runs = 5;
  run();
  StreamClock clock(stream.device, runs + 2);
  clock.restart(stream);
  StreamClock::Mark marks[runs + 1] = {clock.mark(stream)};
  for (int i = 1; i <= runs; ++i) {
    run();
    marks[i] = clock.mark(stream);
  }
  wait_for(stream);
  double shortest = std::numeric_limits<double>::infinity();
  for (int i = 1; i <= runs; ++i) shortest = std::min(shortest, clock.time(marks[i]) - clock.time(marks[i - 1]));
  return shortest;
}

}  // namespace

DeviceRates measure_device_rates(Stream stream, std::unique_ptr<MemorySource> memory, DType type) {
  const bool gpu = stream.device == DeviceKind::cuda;
  const std::int64_t extent = gpu ? 8192 : 1024, copied = std::int64_t{gpu ? 512 : 64} << 20;
  Arena arena(std::move(memory), 2 * copied + (std::int64_t{1} << 20), !gpu);
  const OperatorContext on{.stream = stream, .arena = &arena};
  const Operators& ops = operators(stream.device);
  DeviceRates rates;
  {
    const Tensor from = arena.tensor(DType::u8, {copied}, Label::workspace);
    const Tensor to = arena.tensor(DType::u8, {copied}, Label::workspace);
    if (!gpu) std::fill_n(from.view().data<std::uint8_t>(), copied, std::uint8_t{1});
    rates.bytes = 2 * static_cast<double>(copied) / seconds_of(stream, [&] { copy_within(stream, from, to); });
  }
  const Tensor a = arena.tensor(type, {extent, extent}, Label::workspace);
  const Tensor b = arena.tensor(type, {extent, extent}, Label::workspace);
  const Tensor c = arena.tensor(type, {extent, extent}, Label::workspace);
  const Tensor numbers = arena.tensor(DType::f32, {extent * extent / 2}, Label::workspace);
  for (const Tensor* matrix : {&a, &b}) {
    const View flat = matrix->view().reshape({extent * extent});
    for (const std::int64_t half : {std::int64_t{0}, extent * extent / 2}) {
      ops.fill_normal(on, 1, half, 1, numbers);
      ops.copy(on, numbers, flat.rows(half, half + extent * extent / 2));
    }
  }
  const double side = static_cast<double>(extent);
  rates.flops =
      2 * side * side * side / seconds_of(stream, [&] { ops.gemm(on, Transpose::no, Transpose::yes, 1, a, b, 0, c); });
  wait_for(stream);
  return rates;
}

}  // namespace moesaic
