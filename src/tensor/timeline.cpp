#include "moesaic/tensor/timeline.hpp"

#include <utility>

#include "moesaic/base/contract.hpp"
#include "moesaic/tensor/transfer.hpp"

#ifdef MOESAIC_CUDA
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>
#endif

namespace moesaic {
namespace {

thread_local Timeline* active = nullptr;

#ifdef MOESAIC_CUDA
void push_range(const std::string& name) { nvtxRangePushA(name.c_str()); }
void pop_range() { nvtxRangePop(); }
void start_tools() { cudaProfilerStart(); }
void stop_tools() { cudaProfilerStop(); }
#else
void push_range(const std::string&) {}
void pop_range() {}
void start_tools() {}
void stop_tools() {}
#endif

}  // namespace

std::string_view name_of(SpanKind kind) {
  static constexpr std::string_view names[] = {"step", "phase", "block", "operator", "transfer", "exchange", "wait"};
  return names[static_cast<std::size_t>(kind)];
}

Timeline::Timeline(Stream compute, std::size_t spans) : compute_(compute), clock_(compute.device, 2 * spans + 1) {
  spans_.reserve(spans);
  marks_.reserve(spans);
}

Timeline::~Timeline() {
  if (active == this) active = nullptr;
}

Timeline* Timeline::recording() { return active; }

void Timeline::start() {
  MOESAIC_EXPECT(active == nullptr);
  spans_.clear();
  marks_.clear();
  clock_.restart(compute_);
  active = this;
  start_tools();
}

std::vector<Span> Timeline::stop() {
  MOESAIC_EXPECT(active == this);
  while (!open_.empty()) end();
  active = nullptr;
  stop_tools();
  void* waited = nullptr;
  for (std::size_t i = 0; i < spans_.size(); ++i) {
    Span& span = spans_[i];
    if (i == 0 || span.stream.handle != waited) wait_for(span.stream);
    waited = span.stream.handle;
    span.begin = clock_.time(marks_[i].begin);
    span.end = clock_.time(marks_[i].end);
  }
  return std::exchange(spans_, {});
}

void Timeline::begin(SpanKind kind, Stream stream, SpanText text) {
  push_range(text.name);
  const int parent = open_.empty() ? -1 : open_.back();
  open_.push_back(static_cast<int>(spans_.size()));
  spans_.push_back({.kind = kind, .text = std::move(text), .parent = parent, .stream = stream});
  marks_.push_back({.begin = clock_.mark(stream), .end = {}});
}

void Timeline::end() {
  MOESAIC_EXPECT(!open_.empty());
  const auto span = static_cast<std::size_t>(open_.back());
  open_.pop_back();
  marks_[span].end = clock_.mark(spans_[span].stream);
  pop_range();
}

}  // namespace moesaic
