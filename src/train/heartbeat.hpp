#pragma once
/// Heartbeats between processes over TCP, beside MPI: they arrive while a rank hangs in MPI, and a process that dies is
/// noticed at once, because the system closes its connections. IPv4; all ranks of a job have one byte order.

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "moesaic/train/progress_board.hpp"

namespace moesaic {

/// A file descriptor that is closed at its owner's end.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// The bytes on the wire.
struct Heartbeat {
  std::uint64_t key;  ///< of the job: what does not carry it is a stranger
  std::int32_t rank;
  Condition condition;
  bool ending;  ///< the sender has named the laggards and ends the job
  Position position;
};

/// Receives heartbeats; every method but wake() from one thread.
class HeartbeatInbox {
 public:
  HeartbeatInbox();

  /// Opens a port; returns where it can be reached, as "address:port address:port ...", empty when that failed.
  std::string listen(std::uint64_t key, bool this_host_only);

  /// Waits for something to happen, at most `longest`; then hands every heartbeat to `hear`, and to `lose` the rank of
  /// every connection that the other process's end broke off.
  void receive(Seconds longest, const std::function<void(const Heartbeat&)>& hear,
               const std::function<void(int)>& lose);
  /// Ends a receive() of another thread.
  void wake();

 private:
  struct Line {
    Descriptor socket;
    int rank = -1;  ///< unknown before its first heartbeat
    std::size_t filled = 0;
    std::array<std::byte, sizeof(Heartbeat)> bytes{};
  };
  enum class Outcome { open, ended, refused };

  void accept_all();
  Outcome read(Line& line, const std::function<void(const Heartbeat&)>& hear) const;

  std::uint64_t key_ = 0;
  Descriptor wake_, listening_;
  std::vector<Line> lines_;
};

/// Sends heartbeats to one inbox. Never blocks: what does not go out is dropped, for the next one says more.
class HeartbeatLine {
 public:
  /// Tries `addresses` (of listen()) in turn, each for 2 s at most; where none answers, send() does nothing.
  explicit HeartbeatLine(const std::string& addresses);

  void send(const Heartbeat& heartbeat);

 private:
  bool flush();

  Descriptor socket_;
  std::vector<std::byte> rest_;  ///< of a heartbeat that went out in part
};

}  // namespace moesaic
