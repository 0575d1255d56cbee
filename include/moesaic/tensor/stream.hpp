#pragma once
/// A stream orders the work of one device: kernels and copies handed to it run one after the other.

#include "moesaic/tensor/dtype.hpp"

namespace moesaic {

/// Non-owning. On the CPU a stream is the calling thread and every operator returns when its work is done; on a
/// GPU operators return at once and `handle` is the cudaStream_t that orders them.
struct Stream {
  DeviceKind device = DeviceKind::cpu;
  void* handle = nullptr;
};

/// The CPU's only stream.
inline constexpr Stream host_stream{};

}  // namespace moesaic
