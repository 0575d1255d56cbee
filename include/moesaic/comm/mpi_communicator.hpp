#pragma once
/// Collectives over MPI on host memory.

#include <mpi.h>

#include <cstdint>
#include <memory>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/comm/communicators.hpp"
#include "moesaic/comm/mpi_handle.hpp"
#include "moesaic/comm/mpi_transfers.hpp"
#include "moesaic/tensor/arena.hpp"

namespace moesaic {

/// Every collective is one set of MpiTransfers, completed together; sums are taken here, in rank order, never by MPI,
/// so that all ranks hold the same bits, those of a serial loop. With one rank no message is sent. Scratch comes from
/// the arena (Label::exchange) and lives until the operation completes. MPI's errors are RunErrors.
///
/// A large all-reduce starts its second half when it is completed: ranks must therefore complete all-reduces in the
/// same order, and a Pending dropped instead of completed leaves the group unusable.
class MpiCommunicator final : public Communicator {
 public:
  static constexpr std::int64_t default_max_message_bytes = std::int64_t{1} << 30;
  /// All-reduces of at most this many bytes gather every rank's values and sum all of them: one latency instead of
  /// two.
  static constexpr std::int64_t small_all_reduce_bytes = 16 * 1024;

  /// Takes `comm` over. `arena` must outlive this and every Pending of it; `max_message_bytes` must be the same on
  /// all ranks.
  MpiCommunicator(MpiHandle comm, Arena& arena, std::int64_t max_message_bytes = default_max_message_bytes);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  /// For libraries that take an MPI communicator (HDF5, NCCL's bootstrap). Still owned by this.
  MPI_Comm mpi() const { return comm_.get(); }

  Pending initiate_all_gather(ConstView mine, View all) override;
  Pending initiate_reduce_scatter(ConstView all, View mine) override;
  Pending initiate_all_reduce(View values) override;
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override;
  Pending initiate_send(ConstView values, int to) override;
  Pending initiate_receive(View values, int from) override;
  Pending initiate_broadcast(View values, int root) override;
  void barrier() override;

 private:
  struct Operation;
  std::shared_ptr<Operation> begin(int tag, std::int64_t scratch_bytes = 0);
  int next_tag();
  /// The i-th other rank, i in [1, size): each rank begins with its own successor, so that no rank is everyone's
  /// first.
  int peer(int i) const { return (rank_ + i) % size_; }
  Pending reduce_small(View values);
  Pending reduce_large(View values);

  MpiHandle comm_;
  Arena& arena_;
  std::int64_t max_message_bytes_;
  int rank_;
  int size_;
  int sequence_ = 0;
};

/// The communicators of `grid` over the ranks of `parent`, which must be grid.ranks() many. Collective over `parent`.
Communicators make_communicators(const ProcessGrid& grid, MPI_Comm parent, Arena& arena,
                                 std::int64_t max_message_bytes = MpiCommunicator::default_max_message_bytes);

}  // namespace moesaic
