#pragma once
/// Where a rank computes: the device, its memory, its stream, and how it exchanges with the others.

#include "moesaic/comm/communicators.hpp"
#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/layers/context.hpp"
#include "moesaic/tensor/device.hpp"
#include "moesaic/train/settings.hpp"

namespace moesaic {

/// What run.device comes to on this machine: auto is cuda where a device is and this program has every operator for it.
DeviceKind chosen_device(const RunSettings& settings);

/// Of weights and activations on `device`, as train.precision says.
DType storage_type(const RunSettings& settings, DeviceKind device);

/// InputError when this machine, or this program, cannot do what run.device and train.precision ask for.
void check_device(const RunSettings& settings);

/// Not movable: arenas are referred to.
class Compute {
 public:
  /// On GPUs ranks of one host take the devices that they see in turn, and as much memory as run.device_memory says, else
  /// what is free (an equal share of it where ranks share a device). Collective.
  Compute(const RunSettings& settings, const MpiSession& session);
  Compute(const Compute&) = delete;

  Arena& arena() { return *arena_; }
  /// Memory of the device beside the arena.
  std::unique_ptr<MemorySource> memory() const { return device_.memory(); }
  LayerContext context(const RunSettings& settings);
  /// Collective.
  Communicators communicators(const ProcessGrid& grid);
  /// The most memory that was in use: on the CPU of this process; on a device by how much its free memory has fallen since
  /// before the first allocation (libraries included, the CUDA context apart), or where ranks share it of the arena.
  std::int64_t peak_bytes();

 private:
  Device device_;
  Stream stream_;
  DeviceExchange exchange_;
  int ranks_on_device_ = 1;
  Arena host_arena_{host_memory()};
  std::unique_ptr<Arena> arena_;
  std::int64_t free_at_start_ = 0, largest_fall_ = 0;
};

}  // namespace moesaic
