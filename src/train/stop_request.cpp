#include "moesaic/train/stop_request.hpp"

#include <unistd.h>

#include <array>
#include <csignal>

namespace moesaic {
namespace {

constexpr std::array signals{SIGINT, SIGTERM, SIGUSR1};
volatile std::sig_atomic_t noted = 0;
int living = 0;

extern "C" void note_signal(int signal) {
  if (noted != 0) _exit(1);
  noted = signal;
}

}  // namespace

StopRequest::StopRequest() {
  if (living++ > 0) return;
  noted = 0;
  for (int signal : signals) std::signal(signal, note_signal);
}

StopRequest::~StopRequest() {
  if (--living > 0) return;
  for (int signal : signals) std::signal(signal, SIG_DFL);
}

int StopRequest::signal() const { return noted; }

}  // namespace moesaic
