#pragma once
/// What streams do and when: named spans of work, one within another.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/tensor/stream_clock.hpp"

namespace moesaic {

enum class SpanKind : std::uint8_t { step, phase, block, operation, transfer, exchange, wait };
std::string_view name_of(SpanKind kind);

/// The least that a piece of work has to do: each input read once, each output written once.
struct WorkAmount {
  double flops = 0;
  double bytes = 0;
};

/// What a span says of itself.
struct SpanText {
  std::string name;
  std::string detail = {};  ///< e.g. the shape of an operator, empty: none
  WorkAmount amount = {};
};

struct Span {
  SpanKind kind = SpanKind::operation;
  SpanText text;
  int parent = -1;  ///< index of the span that it lies in; -1: none
  Stream stream;
  double begin = 0, end = 0;  ///< seconds since 1970, by the clock of the stream

  double seconds() const { return end - begin; }
};

/// Records spans, between start() and stop(), of the thread that started it; one at a time in a thread. Spans are NVTX ranges as
/// well, and start() and stop() what `nsys --capture-range=cudaProfilerApi` waits for.
class Timeline {
 public:
  /// `spans`: room made beforehand. Spans are on streams of the device of `compute`, or on the host.
  explicit Timeline(Stream compute, std::size_t spans = 0);
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;
  ~Timeline();

  /// That of this thread; null when none records.
  static Timeline* recording();

  /// Waits for the compute stream.
  void start();
  /// Waits for all streams that spans were on; the spans in the order in which they began. Ends those that are open.
  std::vector<Span> stop();

  /// Spans end in the reverse order of their beginning.
  void begin(SpanKind kind, Stream stream, SpanText text);
  void end();

 private:
  struct Marks {
    StreamClock::Mark begin, end;
  };
  Stream compute_;
  StreamClock clock_;
  std::vector<Span> spans_;
  std::vector<Marks> marks_;
  std::vector<int> open_;
};

/// A span as long as this lives; nothing while no timeline records.
class TimedSpan {
 public:
  /// `describe` returns the SpanText; called only when it is needed.
  template <class Describe>
  TimedSpan(SpanKind kind, Stream stream, Describe&& describe) : timeline_(Timeline::recording()) {
    if (timeline_) timeline_->begin(kind, stream, describe());
  }
  TimedSpan(const TimedSpan&) = delete;
  TimedSpan& operator=(const TimedSpan&) = delete;
  ~TimedSpan() {
    if (timeline_ && timeline_ == Timeline::recording()) timeline_->end();
  }

 private:
  Timeline* timeline_;
};

}  // namespace moesaic
