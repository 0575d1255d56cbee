#pragma once
/// Collectives within one group of ranks. `initiate_...` starts one and returns at once; `Pending::complete()` ends it.
/// All ranks of a group must initiate the same collectives in the same order. Sums are taken in rank order, so the
/// same group gives the same bits. Buffers belong to the operation until it completes.

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// A collective under way. Movable; complete() may be called again without effect.
class Pending {
 public:
  Pending() = default;
  /// `done`: whether completing would return at once; left out where nobody can tell.
  explicit Pending(std::function<void()> complete, std::function<bool()> done = nullptr)
      : complete_(std::move(complete)), done_(std::move(done)) {}
  Pending(Pending&& other) noexcept
      : complete_(std::exchange(other.complete_, nullptr)), done_(std::exchange(other.done_, nullptr)) {}
  Pending& operator=(Pending&& other) noexcept {
    complete_ = std::exchange(other.complete_, nullptr);
    done_ = std::exchange(other.done_, nullptr);
    return *this;
  }

  bool under_way() const { return static_cast<bool>(complete_); }
  /// True when it is completed, or complete() would return at once; false also where that is not known.
  bool done() const { return !complete_ || (done_ && done_()); }
  /// On the host: returns when the result is there. On a GPU: later work of the compute stream waits for it.
  void complete() {
    done_ = nullptr;
    if (auto finish = std::exchange(complete_, nullptr)) finish();
  }

 private:
  std::function<void()> complete_;
  std::function<bool()> done_;
};

/// Views must be contiguous; elements are counted, never bytes; any count is legal, beyond 2^31 and zero included.
class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// all [size * n] = the concatenation, in rank order, of every rank's mine [n]. `mine` may lie in `all` at its place.
  virtual Pending initiate_all_gather(ConstView mine, View all) = 0;
  /// mine [n] = sum over ranks, in rank order, of their all [size * n] at this rank's place. f32 or f64.
  virtual Pending initiate_reduce_scatter(ConstView all, View mine) = 0;
  /// values [n] = sum over ranks in rank order, in place. f32, f64, i32 or i64.
  virtual Pending initiate_all_reduce(View values) = 0;
  /// Rows of the first dimension: send holds send_rows[r] rows for each rank r, in rank order; receive gets
  /// receive_rows[r] rows from each rank r, in rank order. The spans are copied before the call returns.
  virtual Pending initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                      std::span<const std::int64_t> receive_rows) = 0;
  virtual Pending initiate_send(ConstView values, int to) = 0;
  virtual Pending initiate_receive(View values, int from) = 0;
  virtual Pending initiate_broadcast(View values, int root) = 0;
  /// Returns when every rank has come here.
  virtual void barrier() = 0;

  /// What is initiated between the two starts together at end_group(), not to be completed before: for a send and a
  /// receive that wait for each other's peers (a ring), which one after another on a GPU's stream would never end.
  virtual void start_group() {}
  virtual void end_group() {}

  void all_gather(ConstView mine, View all) { initiate_all_gather(mine, all).complete(); }
  void reduce_scatter(ConstView all, View mine) { initiate_reduce_scatter(all, mine).complete(); }
  void all_reduce(View values) { initiate_all_reduce(values).complete(); }
  void all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                  std::span<const std::int64_t> receive_rows) {
    initiate_all_to_all(send, send_rows, receive, receive_rows).complete();
  }
  void broadcast(View values, int root) { initiate_broadcast(values, root).complete(); }
};

}  // namespace moesaic
