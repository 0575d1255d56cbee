#pragma once
/// A chain of ranks whose messages do not wait for each other.

#include <memory>
#include <vector>

#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// Several communicators (lanes) of the same ranks in the same order, for GPUs, where a communicator does its work in the
/// order in which it is initiated: a receive would hold up the send behind it, and stages that pass on what they receive, in
/// a ring, would wait for each other without end. Messages to the next rank of the chain take lane 1 from even and lane 2
/// from odd ranks (up the chain: to even and to odd ranks), so that no rank sends and receives on one of them. All else takes
/// lane 0: messages back from the chain's end to its beginning, groups and collectives.
///
/// Outside groups a receive begins when it is completed. Begun earlier it would run on the device until its message comes, and
/// what CUDA does for a kernel's first run, or to allocate, may wait for all that runs there: one stage in the middle of a
/// step for another that is in the middle of one, without end.
class LanedCommunicator final : public Communicator {
 public:
  static constexpr int most_lanes = 3;
  /// How many are needed by so many ranks.
  static int lanes(int ranks) { return ranks < most_lanes ? ranks : most_lanes; }

  /// `lanes`: lanes(size) of them. `step`: 1 where rank r sends to r + 1, -1 where it sends to r - 1.
  LanedCommunicator(std::vector<std::unique_ptr<Communicator>> lanes, int step)
      : lanes_(std::move(lanes)), step_(step) {}

  int rank() const override { return lanes_[0]->rank(); }
  int size() const override { return lanes_[0]->size(); }

  Pending initiate_all_gather(ConstView mine, View all) override { return lanes_[0]->initiate_all_gather(mine, all); }
  Pending initiate_reduce_scatter(ConstView all, View mine) override {
    return lanes_[0]->initiate_reduce_scatter(all, mine);
  }
  Pending initiate_all_reduce(View values) override { return lanes_[0]->initiate_all_reduce(values); }
  Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                              std::span<const std::int64_t> receive_rows) override {
    return lanes_[0]->initiate_all_to_all(send, send_rows, receive, receive_rows);
  }
  Pending initiate_send(ConstView values, int to) override { return lane(rank(), to).initiate_send(values, to); }
  Pending initiate_receive(View values, int from) override;
  Pending initiate_broadcast(View values, int root) override { return lanes_[0]->initiate_broadcast(values, root); }
  void barrier() override { lanes_[0]->barrier(); }

  void start_group() override {
    grouping_ = true;
    lanes_[0]->start_group();
  }
  void end_group() override {
    lanes_[0]->end_group();
    grouping_ = false;
  }

 private:
  Communicator& lane(int from, int to) const;

  std::vector<std::unique_ptr<Communicator>> lanes_;
  int step_;
  bool grouping_ = false;
};

}  // namespace moesaic
