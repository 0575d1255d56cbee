#pragma once
/// A copy of what this rank owns of the training state, in host memory.

#include <memory>
#include <vector>

#include "moesaic/checkpoint/state.hpp"
#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// Memory for one copy, kept from save to save: fresh pages cost more than the copy itself.
class StateCopy {
 public:
  StateCopy() = default;
  StateCopy(const StateCopy&) = delete;
  ~StateCopy();

  /// Addresses for a copy of `state`; their memory is taken by take_memory() or at the latest by take().
  void reserve(const std::vector<StateArray>& state, DeviceKind device);
  /// Takes the next piece of that memory, pinned where `state` lies on a GPU, which is slow; false when all is there.
  bool take_memory();
  /// The arrays with values of their own, valid until the next call; of what this rank does not own nothing is copied.
  std::vector<StateArray> take(const std::vector<StateArray>& state, Stream stream);

 private:
  void release();
  void copy(Stream stream, View original, View to);

  std::unique_ptr<MemorySource> source_;
  void* data_ = nullptr;
  std::int64_t capacity_ = 0, taken_ = 0;
};

}  // namespace moesaic
