#pragma once
/// Memory of a CUDA device and copies to and from it. Exists only in programs built with MOESAIC_CUDA.

#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

#include <cuda_runtime_api.h>

#include <memory>
#include <string_view>

namespace moesaic {

/// Throws RunError "<what> failed: <CUDA's own words> ..." unless `status` is cudaSuccess.
void check_cuda(cudaError_t status, std::string_view what);

/// The stream as CUDA knows it.
inline cudaStream_t cuda_stream(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

/// Number of usable devices; 0 where there is no driver.
int num_cuda_devices();

/// Memory of `device` by cudaMalloc, which waits for the device: acquire it before the first step.
/// Leaves `device` the current one of the calling thread.
std::unique_ptr<MemorySource> device_memory(int device);

/// Memory of `device` that is taken as an arena reaches into it, and kept: as much as was ever used, in steps of 64 MiB.
std::unique_ptr<MemorySource> mapped_device_memory(int device);

/// Throws RunError: `bytes` were asked for and the device has not as many, quoting what is free.
[[noreturn]] void refuse_device_memory(int device, std::int64_t bytes);

/// Copies contiguous memory of one size and type, ordered by `stream`. From or to pageable host memory CUDA may
/// wait; pinned host memory must stay untouched until the stream has got there.
void copy_to_device(Stream stream, ConstView host, View device);
void copy_to_host(Stream stream, ConstView device, View host);
/// The same within the device.
void copy_on_device(Stream stream, ConstView from, View to);

/// Waits until the device has done all work handed to `stream`.
void synchronise(Stream stream);

}  // namespace moesaic
