#pragma once
/// Ends a job in which some rank stands still, and says which: no job hangs.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/train/progress_board.hpp"

namespace moesaic {

/// A thread on every rank sends the rank's step and phase to ranks 0 and 1, within 50 ms of a change and four times a
/// second anyway. Rank 0 ends the job as soon as a rank has died or failed, or when a rank has made no progress for the limit; it first prints who is to
/// blame and a table of all ranks. Rank 1 does so where rank 0 itself is dead or silent. Where both are, or cannot be
/// reached, each other rank ends on its own account after the limit.
///
/// The clock is each watching thread's own and stands still while that thread does not run: a job that is suspended as
/// a whole and resumed later goes on.
class Watchdog {
 public:
  /// Told why the job is given up, on the rank that found out, from its thread; called at most once, and returns.
  using Report = std::function<void(const Finding& finding, const std::string& text)>;
  /// Ends the job after the report; need not return.
  using End = std::function<void()>;

  /// Says the text on standard error; MPI_Abort, and _exit(1) should that not end this process within 3 s.
  static void report_error(const Finding& finding, const std::string& text);
  static void end_job();

  /// Collective; `world` (all ranks, over host memory) is used here only. Without `limit` the steps' times set it:
  /// StallLimit. MPI must be initialised with MPI_THREAD_MULTIPLE.
  Watchdog(Communicator& world, const std::string& host, std::optional<Seconds> limit, Report report = report_error,
           End end = end_job);
  Watchdog(const Watchdog&) = delete;
  /// The rank has come to its end in order: nobody alarms.
  ~Watchdog();

  /// This rank works on `step`, in `phase`. Cheap; every call is a sign of progress, so call it again within long
  /// phases.
  void progress(std::int64_t step, Phase phase);
  /// The same in the present step.
  void progress(Phase phase);
  /// The present step took `seconds`.
  void step_finished(double seconds);
  /// An error that the other ranks do not know of is about to end this rank: the table is printed first. Returns after a
  /// quarter of a second; should the job not have ended 2 s later, it is ended.
  void failed();

  /// What this rank has heard: of all ranks on ranks 0 and 1, elsewhere of itself.
  ProgressBoard board() const;

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;
};

}  // namespace moesaic
