#pragma once
/// Host memory that a device copies to and from at its full rate.

#include <cstdint>
#include <memory>

#include "moesaic/tensor/arena.hpp"

namespace moesaic {

/// Host memory is pinned in pieces of so many bytes from the beginning of a block; a copy stays within one of them.
inline constexpr std::int64_t transfer_granule = std::int64_t{64} << 20;

/// Host memory for copies to and from a device of `kind`. For CUDA the pages of what is committed are pinned: copies run at
/// the rate of the bus, and beside other work. Where CUDA refuses to pin so much they are not, which is said once. Committing
/// is slow, about 3 GB/s: to be done beside other work, and kept. For the CPU it is plain host memory.
std::unique_ptr<MemorySource> transfer_memory(DeviceKind kind);

/// Pins the pages of host memory, for CUDA; false, and no error left behind, when that is refused. The memory is usable all
/// the same. A program built without CUDA pins nothing.
bool pin_pages(void* block, std::int64_t bytes) noexcept;
/// Takes that back.
void unpin_pages(void* block) noexcept;

}  // namespace moesaic
