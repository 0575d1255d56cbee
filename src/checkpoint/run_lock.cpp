#include "moesaic/checkpoint/run_lock.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

using Milliseconds = std::chrono::milliseconds;

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown-host";
}

/// Who holds the file: "host process job", job "-" outside Slurm.
struct Identity {
  std::string host = host_name(), process = std::to_string(::getpid()), job = "-";

  static Identity mine() {
    Identity identity;
    if (const char* job = std::getenv("SLURM_JOB_ID")) identity.job = job;
    return identity;
  }
  static Identity parse(const std::string& text) {
    Identity identity;
    const std::size_t first = text.find(' '), second = text.find(' ', first + 1), end = text.find('\n');
    if (second == std::string::npos) return {.host = text, .process = "?", .job = "-"};
    return {.host = text.substr(0, first),
            .process = text.substr(first + 1, second - first - 1),
            .job = text.substr(second + 1, end - second - 1)};
  }
  std::string text() const { return host + ' ' + process + ' ' + job + '\n'; }
  std::string described() const {
    return fmt::format("process {} on {}{}", process, host, job == "-" ? "" : fmt::format(", Slurm job {}", job));
  }
};

/// Whether an fcntl lock of `file` was taken; "unsupported" where the file system has none.
enum class Taken : std::uint8_t { yes, no, unsupported };

Taken take_lock(int file) {
  struct flock all {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  if (::fcntl(file, F_OFD_SETLK, &all) == 0) return Taken::yes;
  return errno == EAGAIN || errno == EACCES ? Taken::no : Taken::unsupported;
}

std::string content_of(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  char text[512];
  const ssize_t size = ::pread(file, text, sizeof text, 0);
  ::close(file);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "";
}

/// The stamp, looked up through a new descriptor: that is when NFS asks its server.
std::int64_t stamp_of(const fs::path& path) {
  struct stat status {};
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  ::fstat(file, &status);
  ::close(file);
  return status.st_mtim.tv_sec * std::int64_t{1000000000} + status.st_mtim.tv_nsec;
}

/// Whether somebody stamps the file while we look.
bool is_stamped(const fs::path& path, RunLock::Timing timing) {
  const std::int64_t before = stamp_of(path);
  const auto end = std::chrono::steady_clock::now() + timing.patience;
  while (std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::min(timing.stamp, timing.patience) / 4);
    if (stamp_of(path) != before) return true;
  }
  return false;
}

[[noreturn]] void refuse(const fs::path& path, const std::string& holder) {
  const std::string who = holder.empty() ? "another process" : Identity::parse(holder).described();
  throw InputError(
      fmt::format("{} is in use by {} (two jobs would overwrite each other's checkpoints); wait for its "
                  "end, or name another run.directory",
                  path.parent_path().string(), who));
}

}  // namespace

/// The open file and its sign of life.
class RunLock::Holder {
 public:
  Holder(const fs::path& path, Timing timing)
      : path_(path), timing_(timing), file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (file_ < 0)
      throw InputError(fmt::format("{} cannot be written ({}); name a run.directory that can be written", path.string(),
                                   std::strerror(errno)));
    try {
      take();
    } catch (...) {
      ::close(file_);
      throw;
    }
    thread_ = std::thread([this] { stamp(); });
  }
  Holder(const Holder&) = delete;
  ~Holder() {
    {
      const std::lock_guard guard(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
    [[maybe_unused]] const int emptied = ::ftruncate(file_, 0);  // else the next job is patient for nothing
    ::close(file_);
  }

 private:
  void take() {
    const Taken taken = take_lock(file_);
    const std::string holder = content_of(path_);
    if (taken == Taken::no) refuse(path_, holder);
    if (may_be_alive(holder, taken) && is_stamped(path_, timing_)) refuse(path_, holder);
    const std::string text = Identity::mine().text();
    const bool written = ::ftruncate(file_, 0) == 0 && ::pwrite(file_, text.data(), text.size(), 0) == std::ssize(text);
    // A full disk must not keep a job from ending well: only the sign of life then lacks its name.
    if (!written && errno != ENOSPC && errno != EDQUOT)
      throw InputError(fmt::format("{} cannot be written ({}); name a run.directory that can be written",
                                   path_.string(), std::strerror(errno)));
  }

  /// Whether the kernel's word, `taken`, may not be enough to know that the holder is gone.
  static bool may_be_alive(const std::string& holder, Taken taken) {
    if (holder.empty()) return false;
    const Identity theirs = Identity::parse(holder), mine = Identity::mine();
    const bool is_own_earlier_life = theirs.job != "-" && theirs.job == mine.job;
    return !is_own_earlier_life && (taken == Taken::unsupported || theirs.host != mine.host);
  }

  void stamp() {
    std::unique_lock guard(mutex_);
    while (!changed_.wait_for(guard, timing_.stamp, [this] { return ended_; })) ::futimens(file_, nullptr);
  }

  fs::path path_;
  Timing timing_;
  int file_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::thread thread_;
};

RunLock::RunLock(const fs::path& run_directory, Timing timing)
    : holder_(std::make_unique<Holder>(run_directory / "lock", timing)) {}

RunLock::~RunLock() = default;

}  // namespace moesaic
