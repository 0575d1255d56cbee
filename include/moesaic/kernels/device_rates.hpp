#pragma once
/// How fast a device copies and multiplies, measured: what operators are compared with.

#include "moesaic/kernels/operators.hpp"

namespace moesaic {

struct DeviceRates {
  double flops = 0;  ///< a second, of a large square matrix product
  double bytes = 0;  ///< a second, read and written, of a large copy
};

/// Of the device of `stream`, with matrices of `type`, in less than a second; `memory` (a GiB on a GPU, 200 MiB on the CPU) is
/// given back. Matrix products are measured cool: minutes of them run 15 % slower on an H100.
DeviceRates measure_device_rates(Stream stream, std::unique_ptr<MemorySource> memory, DType type);

}  // namespace moesaic
