#include "moesaic/tensor/timeline.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

SpanText named(const char* name) { return {.name = name}; }

TEST(Timeline, NothingIsDescribedWhileNoneRecords) {
  Timeline timeline(host_stream);
  int described = 0;
  const auto describe = [&] {
    ++described;
    return named("work");
  };
  { const TimedSpan before(SpanKind::operation, host_stream, describe); }
  timeline.start();
  { const TimedSpan within(SpanKind::operation, host_stream, describe); }
  EXPECT_EQ(timeline.stop().size(), 1u);
  { const TimedSpan after(SpanKind::operation, host_stream, describe); }
  EXPECT_EQ(described, 1);
}

TEST(Timeline, SpansNest) {
  Timeline timeline(host_stream);
  timeline.start();
  EXPECT_EQ(Timeline::recording(), &timeline);
  {
    const TimedSpan block(SpanKind::block, host_stream, [] { return named("block"); });
    {
      const TimedSpan first(SpanKind::operation, host_stream, [] { return named("first"); });
    }
    {
      const TimedSpan second(SpanKind::operation, host_stream, [] { return named("second"); });
    }
  }
  const std::vector<Span> spans = timeline.stop();
  EXPECT_EQ(Timeline::recording(), nullptr);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].parent, -1);
  EXPECT_EQ(spans[1].parent, 0);
  EXPECT_EQ(spans[2].parent, 0);
  EXPECT_EQ(spans[2].text.name, "second");
  EXPECT_LE(spans[0].begin, spans[1].begin);
  EXPECT_LE(spans[1].begin, spans[1].end);
  EXPECT_LE(spans[1].end, spans[2].begin);
  EXPECT_LE(spans[2].end, spans[0].end);
}

TEST(Timeline, StoppingEndsWhatIsOpen) {
  Timeline timeline(host_stream);
  timeline.start();
  {
    const TimedSpan open(SpanKind::block, host_stream, [] { return named("open"); });
    EXPECT_EQ(timeline.stop().size(), 1u);
  }
  timeline.start();
  EXPECT_TRUE(timeline.stop().empty());
}

TEST(Timeline, TimesAreThoseOfTheWallClock) {
  const auto now = [] {
    return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  };
  const double before = now();
  Timeline timeline(host_stream);
  timeline.start();
  {
    const TimedSpan span(SpanKind::operation, host_stream, [] { return named("span"); });
  }
  const Span span = timeline.stop().front();
  EXPECT_GE(span.begin, before - 1);  // clocks may be set between
  EXPECT_LE(span.end, now() + 1);
}

}  // namespace
}  // namespace moesaic
