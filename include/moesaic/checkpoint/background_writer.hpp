#pragma once
/// Checkpoints of one run, written by a thread while training goes on.

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/store.hpp"

namespace moesaic {

/// How one save ended, the same on all ranks.
struct SaveOutcome {
  std::int64_t step = 0;
  std::filesystem::path path;
  SaveCost cost;
  double stall_seconds = 0;  ///< for which this rank's training stood still
  std::string problem;       ///< why there is no checkpoint; empty: there is
  bool no_space = false;     ///< the problem is a full disk: the next save may succeed

  bool saved() const { return problem.empty(); }
};

/// One thread a rank, the only one that writes files of checkpoints, over communicators of its own. A save copies the
/// state to host memory (pinned on a GPU), one copy of what this rank owns, and returns; the next waits until the one before is on disk.
/// Methods are collective, and called by one thread.
class CheckpointWriter {
 public:
  /// `background` false: save() itself writes, and copies nothing that lies in host memory.
  CheckpointWriter(const CheckpointStore& store, MPI_Comm ranks, bool background);
  CheckpointWriter(const CheckpointWriter&) = delete;
  /// Waits for a save under way. Not collective.
  ~CheckpointWriter();

  /// Begins to take the memory of the copy, beside training where the writer has a thread; pinning it is slow, and the first
  /// save waits for what is not there yet.
  void prepare(const std::vector<StateArray>& state, Stream stream);
  /// Saves to the store's path of info.step and commits it there. `stream` orders device memory in `state`. `waiting` is
  /// called again and again while an earlier save is written, unless nothing has been written for ten minutes.
  /// AgreedRunError when an earlier one failed for another reason than a full disk.
  void save(const CheckpointInfo& info, const std::vector<StateArray>& state, Stream stream,
            const std::function<void()>& waiting);
  /// Returns when nothing is being written. AgreedRunError as save.
  void wait(const std::function<void()>& waiting);

  /// Saves that ended and were not asked for yet, oldest first. Local.
  std::vector<SaveOutcome> take_outcomes();
  /// Whether a save failed so that the next call will throw: time to end the run. Local.
  bool failed() const;

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;
};

}  // namespace moesaic
