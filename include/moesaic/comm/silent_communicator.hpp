#pragma once
/// A group of ranks of which only one is there, and to which nothing is said.

#include <memory>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/tensor/arena.hpp"

namespace moesaic {

/// For rehearsals: nothing travels and no value is touched, but every operation is legal for a group of that size.
/// Wrapped in a RecordingCommunicator it tells what would be sent.
class SilentCommunicator final : public Communicator {
 public:
  /// `scratch`: lends the memory that MpiCommunicator takes for its sums, as long as that does; null: none (NCCL has its
  /// own).
  SilentCommunicator(int rank, int size, Arena* scratch) : rank_(rank), size_(size), scratch_(scratch) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Pending initiate_all_gather(ConstView, View) override { return nothing(0); }
  Pending initiate_reduce_scatter(ConstView, View mine) override { return nothing((size_ - 1) * mine.bytes()); }
  Pending initiate_all_reduce(View values) override;
  Pending initiate_all_to_all(ConstView, std::span<const std::int64_t>, View, std::span<const std::int64_t>) override {
    return nothing(0);
  }
  /// Done when the next one is initiated: as long as a message may well take.
  Pending initiate_send(ConstView, int) override;
  Pending initiate_receive(View, int) override { return nothing(0); }
  Pending initiate_broadcast(View, int) override { return nothing(0); }
  void barrier() override {}

 private:
  /// Done at once, but holds so much scratch until it is completed.
  Pending nothing(std::int64_t scratch_bytes) const;

  int rank_, size_;
  Arena* scratch_;
  std::shared_ptr<std::int64_t> sends_ = std::make_shared<std::int64_t>(0);
};

}  // namespace moesaic
