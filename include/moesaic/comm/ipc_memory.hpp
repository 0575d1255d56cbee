#pragma once
/// Device memory that the processes of one host lend each other. Compiled with MOESAIC_CUDA only.

#include <mpi.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>

#include "moesaic/comm/mpi_handle.hpp"
#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// Copies of device memory that other processes open through CUDA's inter-process handles (cudaIpcGetMemHandle). Those work
/// on plain allocations alone, not on the mapped addresses of an arena, hence the copies. Each has a word for every reader,
/// which the reader sets behind its last access; then the memory is used again. Failures of CUDA are RunErrors.
class IpcMemory {
 public:
  static constexpr int most_readers = 64;

  /// Where what is lent lies: in the block of `handle`, by offsets in bytes. Plain bytes, to be sent to its readers.
  struct Address {
    std::array<std::byte, 64> handle;
    std::int64_t words = 0;  ///< of the readers
    std::int64_t data = 0;
    std::int64_t bytes = 0;  ///< of data
  };

  /// For the ranks of `parent` on the current device, number `device`; null where memory cannot be shared: ranks on several
  /// hosts, devices that do not reach each other, a system that forbids it. Collective, with one answer for all.
  static std::shared_ptr<IpcMemory> make(MPI_Comm parent, int device, Stream stream);

  IpcMemory(MpiHandle ranks, int device, Stream stream);
  IpcMemory(const IpcMemory&) = delete;
  IpcMemory& operator=(const IpcMemory&) = delete;
  /// Collective: waits until all ranks have read what they were lent; destroyed by an exception it waits for nobody and
  /// leaves the memory to the end of the process.
  ~IpcMemory();

  /// A copy of `values` for `readers` (at most most_readers); the host waits until it is there.
  Address lend(ConstView values, int readers);
  /// The data at the address, which may be lent by this rank itself, for work of the stream. Until give_back().
  const std::byte* borrow(const Address& address);
  /// Behind what the stream holds now: `reader`, counted from 0, needs it no more.
  void give_back(const Address& address, int reader);

 private:
  using Handle = std::array<std::byte, 64>;
  class Blocks;
  struct Lent {
    Buffer memory;
    int readers;
  };

  std::byte* at(const Handle& handle, std::int64_t offset);
  bool given_back(const Lent& lent) const;
  /// Whether this rank can open the blocks of all others. Collective.
  bool opens_all();

  MpiHandle ranks_;
  int exceptions_at_start_;
  Stream stream_;
  Blocks* blocks_;  ///< of pieces_
  std::unique_ptr<Arena> pieces_;
  std::list<Lent> lent_;
  std::map<Handle, std::byte*> opened_;  ///< blocks of others
};

}  // namespace moesaic
