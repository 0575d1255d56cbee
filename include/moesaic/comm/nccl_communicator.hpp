#pragma once
/// Collectives over NCCL on GPU memory. Compiled with MOESAIC_CUDA only.

#include <mpi.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/comm/communicators.hpp"
#include "moesaic/comm/laned_communicator.hpp"
#include "moesaic/comm/mpi_handle.hpp"
#include "moesaic/tensor/stream.hpp"

struct ncclComm;
struct CUevent_st;

namespace moesaic {

/// Runs collectives on a communication stream, ordered against a compute stream by events; the host never waits.
/// initiate: the communication stream waits for what the compute stream holds now, then runs the collective.
/// complete: what the compute stream gets from now on waits for that collective (not for later ones).
///
/// A send is done() when the next one is initiated: a sender waits for its receiver no earlier than that.
///
/// Sums are taken in NCCL's order, which is the same for one NCCL version and placement of ranks. All ranks of the
/// group must use a GPU of their own, current when this is made. Failures of NCCL and CUDA are RunErrors.
class NcclCommunicator final : public Communicator {
 public:
  /// Collective over `bootstrap`, which carries the group's identity and barriers; taken over. Streams are not owned.
  NcclCommunicator(MpiHandle bootstrap, Stream compute, Stream communication);
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;
  /// Waits for the communication stream; after a failure, or destroyed by an exception, it aborts instead, so that nobody
  /// hangs.
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

  /// Makes the connections for messages to and from `peers`, each of which does the same, now. Else the first message between
  /// two ranks makes theirs, for which host and device wait: without end where what the device does waits for that peer.
  void connect(std::span<const int> peers);

  /// Throws RunError when NCCL has met an error since the last call (a lost peer, a broken link). Cheap; poll it.
  void check() const;
  /// Ends what is under way, whose results are lost, though other ranks never come to it. From then on everything else is a
  /// RunError.
  void abort();

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
  int exceptions_at_start_;
  std::shared_ptr<Events> events_;
  std::shared_ptr<std::int64_t> sends_ = std::make_shared<std::int64_t>(0);  ///< initiated
  bool grouping_ = false;
  std::vector<std::shared_ptr<CUevent_st>> grouped_;  ///< completion events of what end_group() will launch
};

/// One for each lane of a LanedCommunicator.
using LaneStreams = std::array<Stream, LanedCommunicator::most_lanes>;

/// The streams of a GPU rank that exchange data, beside the one that computes.
struct CommunicationStreams {
  Stream compute;
  Stream gather;         ///< parameters: dense_shard, expert_shard
  Stream reduce;         ///< sums: world, tokens, dense_replicate, expert_replicate
  Stream exchange;       ///< tokens: expert, context
  LaneStreams down, up;  ///< pipeline
};

/// Whether a rank that is alone in its group needs NCCL.
enum class GroupsOfOne : std::uint8_t {
  copy,      ///< no: it copies, and saves the memory that NCCL takes
  use_nccl,  ///< yes: for tests on one GPU
};

/// The communicators of `grid` over the ranks of `parent`, on the current device. Collective over `parent`.
Communicators make_nccl_communicators(const ProcessGrid& grid, MPI_Comm parent, const CommunicationStreams& streams,
                                      GroupsOfOne alone = GroupsOfOne::copy);

}  // namespace moesaic
