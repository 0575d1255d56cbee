#include "moesaic/checkpoint/background_writer.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "moesaic/comm/mpi_communicator.hpp"
#include "state_copy.hpp"

namespace moesaic {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

/// Between two calls of `waiting`.
constexpr std::chrono::milliseconds interval{100};
/// Without a block written for so long a disk counts as hanging: fsync of many GB takes its time.
constexpr std::chrono::minutes disk_patience{10};

}  // namespace

class CheckpointWriter::Thread {
 public:
  Thread(const CheckpointStore& store, MPI_Comm ranks, bool background)
      : store_(store), ranks_(MpiHandle::duplicate(ranks), scratch_), background_(background) {
    if (background_) thread_ = std::thread([this] { work(); });
  }
  Thread(const Thread&) = delete;
  ~Thread() {
    if (!background_) return;
    {
      const std::lock_guard guard(mutex_);
      leaving_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void prepare(const std::vector<StateArray>& state, Stream stream) {
    if (!copies(stream)) return;
    {
      const std::lock_guard guard(mutex_);
      copy_.reserve(state, stream.device);
      preparing_ = background_;
    }
    changed_.notify_all();
  }

  void save(const CheckpointInfo& info, const std::vector<StateArray>& state, Stream stream,
            const std::function<void()>& waiting) {
    const auto began = Clock::now();
    wait(waiting);
    Request request{info, copies(stream) ? copy_.take(state, stream) : state, 0};
    request.stall_seconds = seconds_since(began);
    hand_over(std::move(request));
    if (!background_) write_here(waiting);
  }

  void wait(const std::function<void()>& waiting) {
    std::unique_lock guard(mutex_);
    while (!changed_.wait_for(guard, interval, [this] { return !request_ && !preparing_; })) {
      guard.unlock();
      if (Clock::now() - last_progress_.load() < disk_patience) waiting();
      guard.lock();
    }
    if (!failure_.empty()) throw AgreedRunError(failure_);
  }

  std::vector<SaveOutcome> take_outcomes() {
    const std::lock_guard guard(mutex_);
    return std::exchange(outcomes_, {});
  }

  bool failed() const {
    const std::lock_guard guard(mutex_);
    return !failure_.empty();
  }

 private:
  struct Request {
    CheckpointInfo info;
    std::vector<StateArray> state;
    double stall_seconds;
  };

  /// What lies in host memory is written from there when training waits anyway.
  bool copies(Stream stream) const { return background_ || stream.device != DeviceKind::cpu; }

  void hand_over(Request request) {
    {
      const std::lock_guard guard(mutex_);
      request_ = std::move(request);
      last_progress_ = Clock::now();
    }
    changed_.notify_all();
  }

  void work() {
    std::unique_lock guard(mutex_);
    while (true) {
      changed_.wait(guard, [this] { return preparing_ || request_ || leaving_; });
      if (preparing_)
        take_memory(guard);
      else if (request_)
        write_request(guard, [this] { last_progress_ = Clock::now(); });
      else
        return;
    }
  }

  /// Takes the copy's memory while training goes on.
  void take_memory(std::unique_lock<std::mutex>& guard) {
    bool more = true;
    while (more && !leaving_) {
      guard.unlock();
      more = copy_.take_memory();
      last_progress_ = Clock::now();
      guard.lock();
    }
    preparing_ = false;
    changed_.notify_all();
  }

  void write_here(const std::function<void()>& progress) {
    std::unique_lock guard(mutex_);
    write_request(guard, progress);
    if (!failure_.empty()) throw AgreedRunError(failure_);
  }

  /// Writes what was handed over, unlocked meanwhile.
  void write_request(std::unique_lock<std::mutex>& guard, const std::function<void()>& progress) {
    guard.unlock();
    const SaveOutcome outcome = write(*request_, progress);
    guard.lock();
    request_.reset();
    if (!outcome.saved() && !outcome.no_space) failure_ = outcome.problem;
    outcomes_.push_back(outcome);
    changed_.notify_all();
  }

  SaveOutcome write(const Request& request, const std::function<void()>& progress) {
    SaveOutcome outcome{.step = request.info.step,
                        .path = store_.path_of(request.info.step),
                        .cost = {},
                        .stall_seconds = request.stall_seconds,
                        .problem = "",
                        .no_space = false};
    try {
      outcome.cost = save_checkpoint(outcome.path, ranks_, request.info, request.state, progress);
      together(ranks_, [&] {
        if (ranks_.rank() == 0) store_.commit(request.info.step);
      });
    } catch (const NoSpaceError& error) {
      outcome.problem = error.what();
      outcome.no_space = true;
    } catch (const std::exception& error) {
      outcome.problem = error.what();
    }
    return outcome;
  }

  CheckpointStore store_;
  Arena scratch_{host_memory()};
  MpiCommunicator ranks_;
  StateCopy copy_;
  bool background_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<Clock::time_point> last_progress_{Clock::now()};
  std::optional<Request> request_;  ///< being written, or about to be
  std::vector<SaveOutcome> outcomes_;
  std::string failure_;
  bool preparing_ = false;  ///< the thread takes the copy's memory
  bool leaving_ = false;
  std::thread thread_;
};

CheckpointWriter::CheckpointWriter(const CheckpointStore& store, MPI_Comm ranks, bool background)
    : thread_(std::make_unique<Thread>(store, ranks, background)) {}

CheckpointWriter::~CheckpointWriter() = default;

void CheckpointWriter::prepare(const std::vector<StateArray>& state, Stream stream) { thread_->prepare(state, stream); }

void CheckpointWriter::save(const CheckpointInfo& info, const std::vector<StateArray>& state, Stream stream,
                            const std::function<void()>& waiting) {
  thread_->save(info, state, stream, waiting);
}

void CheckpointWriter::wait(const std::function<void()>& waiting) { thread_->wait(waiting); }

std::vector<SaveOutcome> CheckpointWriter::take_outcomes() { return thread_->take_outcomes(); }

bool CheckpointWriter::failed() const { return thread_->failed(); }

}  // namespace moesaic
