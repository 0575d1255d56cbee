#include "moesaic/train/watchdog.hpp"

#include <mpi.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <random>
#include <thread>

#include "heartbeat.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/comm/agreement.hpp"

namespace moesaic {
namespace {

constexpr Seconds interval{0.25};           // between heartbeats from one place
constexpr Seconds tick{0.05};               // between looks at the position
constexpr Seconds pause_of_hub{0.02};       // between looks at the network, however many heartbeats come
constexpr Seconds longest_tick{1};          // more was no time in which this thread could hear anything
constexpr Seconds patience{0.1};            // for the last heartbeats of the other ranks
constexpr Seconds patience_of_deputy{1};    // for rank 0 to say that it ends the job
constexpr Seconds patience_after_sleep{3};  // who was stopped may be waking up to a job that others are ending
constexpr Seconds patience_with_failed{2};  // for the rank that failed to say why and to end the job itself
constexpr int hubs = 2;

std::vector<std::string> gather_hosts(Communicator& world, const std::string& host) {
  constexpr std::int64_t width = 64;
  std::vector<std::uint8_t> mine(width), all(static_cast<std::size_t>(width * world.size()));
  std::copy_n(host.begin(), std::min<std::size_t>(host.size(), width - 1), mine.begin());
  world.all_gather(host_view(mine.data(), {width}), host_view(all.data(), {width * world.size()}));
  std::vector<std::string> hosts;
  for (int r = 0; r < world.size(); ++r) hosts.emplace_back(reinterpret_cast<const char*>(all.data() + width * r));
  return hosts;
}

std::int64_t agree_on_key(Communicator& world) {
  std::random_device random;
  auto key = static_cast<std::int64_t>((std::uint64_t{random()} << 32) | random());
  world.broadcast(host_view(&key, {1}), 0);
  return key;
}

/// Signals are for the main thread.
std::thread start_without_signals(std::function<void()> work) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(work));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

class Watchdog::Thread {
 public:
  Thread(Communicator& world, const std::string& host, std::optional<Seconds> limit, Report report, End end);
  ~Thread();

  void progress(std::optional<std::int64_t> step, Phase phase);
  void step_finished(Seconds took);
  void failed();
  ProgressBoard board() const;

 private:
  using Clock = std::chrono::steady_clock;

  bool hub() const { return rank_ < hubs; }
  void watch(const std::vector<std::string>& addresses);
  void advance_clock();
  void speak();
  void hear(const Heartbeat& heartbeat);
  void judge();
  Seconds limit() const;
  std::optional<Finding> find_own_stall() const;
  Seconds patience_with(const Finding& finding) const;
  void give_up(const Finding& finding);
  void end_when_due();

  const int rank_;
  const Report report_;
  const End end_;
  std::uint64_t key_;
  HeartbeatInbox inbox_;

  mutable std::mutex mutex_;  ///< over what the main thread shares: the next five
  Position position_;
  Condition condition_ = Condition::alive;
  StallLimit limit_;
  ProgressBoard board_;
  bool over_ = false;

  std::vector<HeartbeatLine> lines_;
  Clock::time_point last_tick_ = Clock::now();
  Seconds now_{};
  std::optional<Seconds> woke_at_, found_at_, end_at_;
  bool hub_ends_ = false;  ///< rank 0 is ending the job
  bool ended_ = false;
  std::thread thread_;
};

Watchdog::Thread::Thread(Communicator& world, const std::string& host, std::optional<Seconds> limit, Report report,
                         End end)
    : rank_(world.rank()), report_(std::move(report)), end_(std::move(end)),
      key_(static_cast<std::uint64_t>(agree_on_key(world))), limit_(limit), board_(gather_hosts(world, host)) {
  bool one_host = true;
  for (int r = 1; r < board_.size(); ++r) one_host = one_host && board_[r].host == board_[0].host;
  std::vector<std::string> others;
  const std::string mine = hub() ? inbox_.listen(key_, one_host) : "";
  for (int r = 0; r < std::min(hubs, world.size()); ++r) {
    std::string addresses = broadcast_text(world, mine, r);
    if (r != rank_) others.push_back(std::move(addresses));
  }
  thread_ = start_without_signals([this, others = std::move(others)] { watch(others); });
}

Watchdog::Thread::~Thread() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
    if (condition_ == Condition::alive) condition_ = Condition::left;
  }
  inbox_.wake();
  thread_.join();
}

void Watchdog::Thread::progress(std::optional<std::int64_t> step, Phase phase) {
  const std::lock_guard lock(mutex_);
  const bool begins = step && *step != position_.step;
  position_ = {step.value_or(position_.step), phase, begins ? 0 : position_.changes + 1};
}

void Watchdog::Thread::step_finished(Seconds took) {
  const std::lock_guard lock(mutex_);
  limit_.step_finished(took);
}

void Watchdog::Thread::failed() {
  {
    const std::lock_guard lock(mutex_);
    condition_ = Condition::failed;
  }
  inbox_.wake();
  std::this_thread::sleep_for(interval);  // for the table: what comes next may end all ranks
}

Seconds Watchdog::Thread::limit() const {
  const std::lock_guard lock(mutex_);
  return limit_.value();
}

ProgressBoard Watchdog::Thread::board() const {
  const std::lock_guard lock(mutex_);
  return board_;
}

void Watchdog::Thread::watch(const std::vector<std::string>& addresses) {
  for (const std::string& hub : addresses) lines_.emplace_back(hub);
  for (bool over = false; !over;) {
    {
      const std::lock_guard lock(mutex_);
      over = over_;
    }
    advance_clock();
    speak();
    judge();
    if (over) break;
    if (hub()) std::this_thread::sleep_for(pause_of_hub);
    inbox_.receive(
        tick, [this](const Heartbeat& heartbeat) { hear(heartbeat); },
        [this](int rank) {
          const std::lock_guard lock(mutex_);
          board_.lose(rank);
        });
  }
}

void Watchdog::Thread::advance_clock() {
  const auto present = Clock::now();
  now_ += std::min<Seconds>(present - last_tick_, longest_tick);
  if (present - last_tick_ > longest_tick) woke_at_ = now_;
  last_tick_ = present;
}

/// Sends a heartbeat when there is news, or when one is due.
void Watchdog::Thread::speak() {
  const std::lock_guard lock(mutex_);
  const RankState& said = board_[rank_];
  if (said.condition == condition_ && said.position == position_ && !end_at_ && now_ - said.heard < interval) return;
  board_.hear(rank_, condition_, position_, now_);
  for (HeartbeatLine& line : lines_)
    line.send(
        {.key = key_, .rank = rank_, .condition = condition_, .ending = end_at_.has_value(), .position = position_});
}

void Watchdog::Thread::hear(const Heartbeat& heartbeat) {
  if (heartbeat.rank < 0 || heartbeat.rank >= board_.size()) return;
  const std::lock_guard lock(mutex_);
  board_.hear(heartbeat.rank, heartbeat.condition, heartbeat.position, now_);
  hub_ends_ = hub_ends_ || (heartbeat.rank == 0 && heartbeat.ending);
}

void Watchdog::Thread::judge() {
  if (end_at_) return end_when_due();
  const std::optional<Finding> finding = hub() ? find_stall(board_, now_, time_to_act(limit())) : find_own_stall();
  if (!finding || hub_ends_) return;
  if (!found_at_) found_at_ = now_;
  if (now_ - *found_at_ >= patience_with(*finding)) give_up(*finding);
}

/// A rank that is no hub knows only of itself, and speaks when the hubs had their time.
std::optional<Finding> Watchdog::Thread::find_own_stall() const {
  if (now_ - board_[rank_].moved < limit()) return std::nullopt;
  return Finding{Stall::tie, {rank_}};
}

/// Rank 0 acts, its deputy where rank 0 does not.
Seconds Watchdog::Thread::patience_with(const Finding& finding) const {
  if (woke_at_ && now_ - *woke_at_ < patience_after_sleep) return patience_after_sleep;
  // A rank 0 that failed still speaks for itself.
  const bool speaks = board_[0].condition == Condition::alive || board_[0].condition == Condition::failed;
  const bool first_is_out = !speaks || (finding.stall == Stall::silence && finding.laggards.front() == 0);
  return rank_ == 1 && !first_is_out ? patience_of_deputy : patience;
}

void Watchdog::Thread::give_up(const Finding& finding) {
  end_at_ = now_ + (finding.stall == Stall::failure ? patience_with_failed : Seconds(0));
  speak();
  report_(finding, describe(board_, finding, now_));
  end_when_due();
}

void Watchdog::Thread::end_when_due() {
  if (!ended_ && now_ >= *end_at_) {
    ended_ = true;
    end_();
  }
}

void Watchdog::report_error(const Finding&, const std::string& text) { log_error("watchdog: {}", text); }

void Watchdog::end_job() {
  std::fflush(nullptr);
  std::thread([] { MPI_Abort(MPI_COMM_WORLD, 1); }).detach();
  std::this_thread::sleep_for(std::chrono::seconds(3));
  ::_exit(1);
}

Watchdog::Watchdog(Communicator& world, const std::string& host, std::optional<Seconds> limit, Report report, End end)
    : thread_(std::make_unique<Thread>(world, host, limit, std::move(report), std::move(end))) {}
Watchdog::~Watchdog() = default;

void Watchdog::progress(std::int64_t step, Phase phase) { thread_->progress(step, phase); }
void Watchdog::progress(Phase phase) { thread_->progress(std::nullopt, phase); }
void Watchdog::step_finished(double seconds) { thread_->step_finished(Seconds(seconds)); }
void Watchdog::failed() { thread_->failed(); }
ProgressBoard Watchdog::board() const { return thread_->board(); }

}  // namespace moesaic
