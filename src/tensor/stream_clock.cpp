#include "moesaic/tensor/stream_clock.hpp"

#include "moesaic/tensor/transfer.hpp"

#ifdef MOESAIC_CUDA
#include "moesaic/tensor/cuda_memory.hpp"
#endif

namespace moesaic {

StreamClock::StreamClock(DeviceKind device, std::size_t events) {
  if (device == DeviceKind::cpu) return;
  while (events_.size() < events) make_event();
}

void StreamClock::restart(Stream stream) {
  wait_for(stream);
  times_.clear();
  events_used_ = 0;
  if (stream.device == DeviceKind::cuda) record_event(stream);
  host_zero_ = Clock::now();
  zero_ = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

StreamClock::Mark StreamClock::mark(Stream stream) {
  if (stream.device == DeviceKind::cuda) {
    record_event(stream);
    return {true, events_used_ - 1};
  }
  times_.push_back(Clock::now());
  return {false, times_.size() - 1};
}

double StreamClock::time(Mark mark) const {
  if (mark.event) return zero_ + seconds_to_event(mark.index);
  return zero_ + std::chrono::duration<double>(times_[mark.index] - host_zero_).count();
}

#ifdef MOESAIC_CUDA

StreamClock::~StreamClock() {
  for (void* event : events_) cudaEventDestroy(static_cast<cudaEvent_t>(event));
}

void StreamClock::make_event() {
  cudaEvent_t event = nullptr;
  check_cuda(cudaEventCreate(&event), "cudaEventCreate");
  events_.push_back(event);
}

void StreamClock::record_event(Stream stream) {
  if (events_used_ == events_.size()) make_event();
  check_cuda(cudaEventRecord(static_cast<cudaEvent_t>(events_[events_used_++]), cuda_stream(stream)),
             "cudaEventRecord");
}

double StreamClock::seconds_to_event(std::size_t event) const {
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(events_[0]),
                                  static_cast<cudaEvent_t>(events_[event])),
             "cudaEventElapsedTime");
  return 1e-3 * static_cast<double>(milliseconds);
}

#else

StreamClock::~StreamClock() = default;
void StreamClock::make_event() {}
void StreamClock::record_event(Stream) {}
double StreamClock::seconds_to_event(std::size_t) const { return 0; }

#endif

}  // namespace moesaic
