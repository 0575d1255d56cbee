#include "moesaic/train/compute.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "moesaic/base/text.hpp"
#include "moesaic/comm/device_communicators.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/kernels/profiled_operators.hpp"

namespace moesaic {
namespace {

/// Left to libraries: kernels' code, workspaces of cuBLAS and cuDNN, NCCL's buffers.
constexpr std::int64_t library_bytes = std::int64_t{3} << 30;

Device make_device(const RunSettings& settings, const MpiSession& session) {
  if (chosen_device(settings) == DeviceKind::cpu) return {};
  return Device::cuda(session.local_rank() % num_devices());
}

std::int64_t arena_bytes(const RunSettings& settings, const Device& device, int sharing) {
  if (settings.device_memory > 0) return settings.device_memory;
  const std::int64_t share = device.free_bytes() / sharing - library_bytes;
  MOESAIC_VALIDATE(
      share > 0,
      "device {} has {} free for {} of this job's ranks (libraries alone need {} a rank); end what else uses "
      "it, or start fewer ranks",
      device.index(), format_bytes(device.free_bytes()), sharing, format_bytes(library_bytes));
  return share;
}

}  // namespace

DType storage_type(const RunSettings& settings, DeviceKind device) {
  if (settings.precision == Precision::automatic) return device == DeviceKind::cuda ? DType::bf16 : DType::f32;
  return settings.precision == Precision::bf16 ? DType::bf16 : DType::f32;
}

DeviceKind chosen_device(const RunSettings& settings) {
  if (settings.device == DeviceChoice::cuda) return DeviceKind::cuda;
  const bool usable = num_devices() > 0 && missing_operators(DeviceKind::cuda).empty();
  return settings.device == DeviceChoice::automatic && usable ? DeviceKind::cuda : DeviceKind::cpu;
}

void check_device(const RunSettings& settings) {
  const bool cuda = chosen_device(settings) == DeviceKind::cuda;
  MOESAIC_VALIDATE(!cuda || missing_operators(DeviceKind::cuda).empty(),
                   "run.device = cuda cannot train with this program (without a CUDA version: {}); build the preset "
                   "hopper, or set run.device = cpu",
                   missing_operators(DeviceKind::cuda));
  MOESAIC_VALIDATE(!cuda || num_devices() > 0,
                   "run.device = cuda and this host has no CUDA device that works (nvidia-smi shows them); ask the job "
                   "scheduler for GPUs, or set run.device = cpu");
  MOESAIC_VALIDATE(cuda || settings.precision != Precision::bf16,
                   "train.precision = bf16 needs a GPU (the CPU computes in fp32); set train.precision = fp32 or auto");
}

Compute::Compute(const RunSettings& settings, const MpiSession& session)
    : device_(make_device(settings, session)), stream_(device_.make_stream()), exchange_(settings.device_exchange) {
  if (device_.kind() == DeviceKind::cpu) {
    arena_ = std::make_unique<Arena>(device_.memory());
    return;
  }
  ranks_on_device_ = ranks_on_device(MPI_COMM_WORLD, device_);
  std::unique_ptr<MemorySource> memory = device_.memory();  // makes the CUDA context
  free_at_start_ = device_.free_bytes();
  arena_ = std::make_unique<Arena>(std::move(memory), arena_bytes(settings, device_, ranks_on_device_), false);
}

LayerContext Compute::context(const RunSettings& settings) {
  return {.ops = settings.profile_steps.count > 0 ? &profiled_operators() : &operators(device_.kind()),
          .on = {.stream = stream_, .arena = arena_.get(), .deterministic = settings.deterministic},
          .type = storage_type(settings, device_.kind()),
          .recompute = settings.recompute};
}

Communicators Compute::communicators(const ProcessGrid& grid) {
  if (device_.kind() == DeviceKind::cpu) return make_communicators(grid, MPI_COMM_WORLD, *arena_);
  return make_device_communicators(grid, MPI_COMM_WORLD, exchange_, device_, stream_, host_arena_);
}

std::int64_t Compute::peak_bytes() {
  if (device_.kind() == DeviceKind::cuda) {
    if (ranks_on_device_ > 1) return arena_->peak();
    largest_fall_ = std::max(largest_fall_, free_at_start_ - device_.free_bytes());
    return largest_fall_;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return std::int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace moesaic
