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
  /// On GPUs ranks of one host take its devices in turn, and as much memory as run.device_memory says, else what is free
  /// (an equal share of it where ranks share a device).
  Compute(const RunSettings& settings, const MpiSession& session);
  Compute(const Compute&) = delete;

  Arena& arena() { return *arena_; }
  /// Memory of the device beside the arena.
  std::unique_ptr<MemorySource> memory() const { return device_.memory(); }
  LayerContext context(const RunSettings& settings);
  /// Collective. Ranks that share a device exchange through host memory, others over NCCL.
  Communicators communicators(const ProcessGrid& grid);
  /// The most memory that was in use: of the device's arena, or on the CPU of this process.
  std::int64_t peak_bytes() const;

 private:
  Device device_;
  Stream stream_;
  int ranks_on_device_ = 1;
  Arena host_arena_{host_memory()};
  std::unique_ptr<Arena> arena_;
};

}  // namespace moesaic
