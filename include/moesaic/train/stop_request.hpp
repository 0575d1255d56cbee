#pragma once
/// Signals that ask the run to end well.

namespace moesaic {

/// While one lives, SIGINT, SIGTERM and SIGUSR1 are noted instead of ending the process: the step that follows ends in a
/// checkpoint. A second signal ends the process at once (status 1). One made while another lives goes on with what that has
/// noted: the program makes the first before MPI starts, each run one of its own.
class StopRequest {
 public:
  StopRequest();
  StopRequest(const StopRequest&) = delete;
  ~StopRequest();
  /// The signal noted on this rank; 0 when none was.
  int signal() const;
};

}  // namespace moesaic
