#pragma once
/// Collectives over NCCL on GPU memory. Compiled with MOESAIC_CUDA only.

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/comm/communicators.hpp"
#include "moesaic/comm/mpi_handle.hpp"
#include "moesaic/tensor/stream.hpp"

struct ncclComm;
struct CUevent_st;

namespace moesaic {

/// Runs collectives on a communication stream, ordered against a compute stream by events; the host never waits.
/// initiate: the communication stream waits for what the compute stream holds now, then runs the collective.
/// complete: what the compute stream gets from now on waits for that collective (not for later ones).
///
/// Sums are taken in NCCL's order, which is the same for one NCCL version and placement of ranks. All ranks of the
/// group must use a GPU of their own, current when this is made. Failures of NCCL and CUDA are RunErrors.
class NcclCommunicator final : public Communicator {
 public:
  /// Collective over `bootstrap`, which carries the group's identity and barriers; taken over. Streams are not owned.
  NcclCommunicator(MpiHandle bootstrap, Stream compute, Stream communication);
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;
  /// Waits for the communication stream; after a failure it aborts instead, so that nobody hangs.
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Pending initiate_all_gather(ConstView mine, View all) override;
  Pending initiate_reduce_scatter(ConstView all, View mine) override;
  Pending initiate_all_reduce(View values) override;
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override;
  Pending initiate_send(ConstView values, int to) override;
  Pending initiate_receive(View values, int from) override;
  Pending initiate_broadcast(View values, int root) override;
  /// Of the host threads (over MPI): says nothing about the streams.
  void barrier() override;

  /// Throws RunError when NCCL has met an error since the last call (a lost peer, a broken link). Cheap; poll it.
  void check() const;

  void start_group() override;
  void end_group() override;

 private:
  class Events;
  /// Orders the communication stream behind the compute stream, issues, and returns the completion.
  template <class Issue> Pending run(const char* name, std::int64_t bytes, Issue&& issue);

  MpiHandle bootstrap_;
  Stream compute_;
  Stream communication_;
  int rank_;
  int size_;
  ncclComm* comm_ = nullptr;
  std::shared_ptr<Events> events_;
  bool grouping_ = false;
  std::vector<std::shared_ptr<CUevent_st>> grouped_;  ///< completion events of what end_group() will launch
};

/// The streams of a GPU rank that exchange data, beside the one that computes.
struct CommunicationStreams {
  Stream compute;
  Stream gather;    ///< parameters: dense_shard, expert_shard
  Stream reduce;    ///< sums: world, tokens, dense_replicate, expert_replicate
  Stream exchange;  ///< tokens: expert, context
  Stream down, up;  ///< pipeline: a receive that waits for another stage must not hold up the rest
};

/// The communicators of `grid` over the ranks of `parent`, on the current device. Collective over `parent`.
Communicators make_nccl_communicators(const ProcessGrid& grid, MPI_Comm parent, const CommunicationStreams& streams);

}  // namespace moesaic
