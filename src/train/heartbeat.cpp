#include "heartbeat.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <type_traits>

namespace moesaic {
namespace {

static_assert(std::is_trivially_copyable_v<Heartbeat>);

constexpr int connect_milliseconds = 2000;

Descriptor make_socket() { return Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); }

const sockaddr* generic(const sockaddr_in& address) { return reinterpret_cast<const sockaddr*>(&address); }

/// One connection a rank: the soft limit of open files is often 1024.
void raise_open_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// This host's addresses, loopback last.
std::vector<std::string> host_addresses() {
  std::vector<std::string> addresses;
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return {"127.0.0.1"};
  for (const ifaddrs* one = all; one; one = one->ifa_next) {
    if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
    if (!(one->ifa_flags & IFF_UP) || (one->ifa_flags & IFF_LOOPBACK)) continue;
    sockaddr_in address{};
    std::memcpy(&address, one->ifa_addr, sizeof address);
    std::array<char, INET_ADDRSTRLEN> text{};
    addresses.emplace_back(inet_ntop(AF_INET, &address.sin_addr, text.data(), text.size()));
  }
  freeifaddrs(all);
  addresses.emplace_back("127.0.0.1");
  return addresses;
}

sockaddr_in parse_address(const std::string& text) {
  const std::size_t colon = text.find(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1))));
  inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr);
  return address;
}

/// A connected socket, or a closed descriptor.
Descriptor connect_to(const sockaddr_in& address) {
  Descriptor socket = make_socket();
  if (!socket.open()) return Descriptor();
  if (::connect(socket.get(), generic(address), sizeof address) == 0) return socket;
  if (errno != EINPROGRESS) return Descriptor();
  pollfd waiting{socket.get(), POLLOUT, 0};
  int error = 0;
  socklen_t size = sizeof error;
  const bool answered = ::poll(&waiting, 1, connect_milliseconds) == 1 &&
                        getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
  return answered ? std::move(socket) : Descriptor();
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

HeartbeatInbox::HeartbeatInbox() : wake_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

std::string HeartbeatInbox::listen(std::uint64_t key, bool this_host_only) {
  raise_open_file_limit();
  key_ = key;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(this_host_only ? INADDR_LOOPBACK : INADDR_ANY);
  socklen_t size = sizeof address;
  Descriptor socket = make_socket();
  if (!socket.open() || ::bind(socket.get(), generic(address), sizeof address) != 0 ||
      ::listen(socket.get(), SOMAXCONN) != 0 ||
      getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return "";
  listening_ = std::move(socket);
  std::string reachable;
  for (const std::string& host : this_host_only ? std::vector<std::string>{"127.0.0.1"} : host_addresses())
    reachable += fmt::format("{}:{} ", host, ntohs(address.sin_port));
  return reachable;
}

void HeartbeatInbox::receive(Seconds longest, const std::function<void(const Heartbeat&)>& hear,
                             const std::function<void(int)>& lose) {
  std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}};
  for (const Line& line : lines_) polled.push_back({line.socket.get(), POLLIN, 0});
  ::poll(polled.data(), polled.size(), static_cast<int>(longest.count() * 1000));

  std::uint64_t wakes = 0;
  [[maybe_unused]] const ssize_t woken = ::read(wake_.get(), &wakes, sizeof wakes);
  accept_all();
  std::erase_if(lines_, [&](Line& line) {
    const Outcome outcome = read(line, hear);
    if (outcome == Outcome::ended && line.rank >= 0) lose(line.rank);
    return outcome != Outcome::open;
  });
}

void HeartbeatInbox::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void HeartbeatInbox::accept_all() {
  while (listening_.open()) {
    Descriptor socket(::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket.open()) return;
    lines_.emplace_back().socket = std::move(socket);
  }
}

HeartbeatInbox::Outcome HeartbeatInbox::read(Line& line, const std::function<void(const Heartbeat&)>& hear) const {
  while (true) {
    const ssize_t got = ::recv(line.socket.get(), line.bytes.data() + line.filled, line.bytes.size() - line.filled, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Outcome::open;
    if (got == 0 || (got < 0 && errno == ECONNRESET)) return Outcome::ended;
    if (got < 0) return Outcome::refused;  // the network's fault: the rank falls silent
    line.filled += static_cast<std::size_t>(got);
    if (line.filled < line.bytes.size()) continue;
    line.filled = 0;
    Heartbeat heartbeat;
    std::memcpy(&heartbeat, line.bytes.data(), sizeof heartbeat);
    if (heartbeat.key != key_) return Outcome::refused;
    line.rank = heartbeat.rank;
    hear(heartbeat);
  }
}

HeartbeatLine::HeartbeatLine(const std::string& addresses) {
  std::istringstream words(addresses);
  for (std::string word; !socket_.open() && words >> word;) socket_ = connect_to(parse_address(word));
}

void HeartbeatLine::send(const Heartbeat& heartbeat) {
  if (!socket_.open() || !flush()) return;
  const auto* bytes = reinterpret_cast<const std::byte*>(&heartbeat);
  rest_.assign(bytes, bytes + sizeof heartbeat);
  const std::size_t whole = rest_.size();
  if (!flush() && rest_.size() == whole) rest_.clear();
}

/// True when nothing is left.
bool HeartbeatLine::flush() {
  if (rest_.empty()) return true;
  const ssize_t sent = ::send(socket_.get(), rest_.data(), rest_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent > 0) rest_.erase(rest_.begin(), rest_.begin() + sent);
  return rest_.empty();
}

}  // namespace moesaic
