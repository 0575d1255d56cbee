#pragma once
/// What a rank computes on: the CPU, or one CUDA device. The place where the two differ in memory and streams.

#include <memory>
#include <vector>

#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// CUDA devices that this process can use; 0 in a program built without CUDA, or where there is no driver.
int num_devices();

/// Movable owner of a device's streams.
class Device {
 public:
  /// The CPU.
  Device() = default;
  /// CUDA device `index`, from now on the current one of the calling thread. RunError in a program built without CUDA.
  static Device cuda(int index);
  Device(Device&&) = default;
  Device& operator=(Device&&) = default;
  ~Device();

  DeviceKind kind() const { return kind_; }
  int index() const { return index_; }
  std::unique_ptr<MemorySource> memory() const;
  /// Bytes that nobody has taken yet; of the CPU unknown: 0.
  std::int64_t free_bytes() const;
  /// A stream that lives as long as this; the CPU has one.
  Stream make_stream();

 private:
  DeviceKind kind_ = DeviceKind::cpu;
  int index_ = 0;
  std::vector<std::shared_ptr<void>> streams_;
};

}  // namespace moesaic
