#pragma once
/// Host memory that a device copies to and from at its full rate.

#include <cstdint>
#include <memory>

#include "moesaic/tensor/arena.hpp"

namespace moesaic {

/// Host memory for copies to and from a device of `kind`. For CUDA its pages are pinned: copies run at the rate of the bus,
/// and beside other work. Where CUDA refuses to pin so much they are not, which is said once. Acquiring it is slow: before
/// the first step, and to be kept. For the CPU it is plain host memory.
std::unique_ptr<MemorySource> transfer_memory(DeviceKind kind);

/// Pins the pages of host memory, for CUDA; false, and no error left behind, when that is refused. The memory is usable all
/// the same. A program built without CUDA pins nothing.
bool pin_pages(void* block, std::int64_t bytes) noexcept;
/// Takes that back.
void unpin_pages(void* block) noexcept;

}  // namespace moesaic
