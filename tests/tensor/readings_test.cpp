#include "moesaic/tensor/readings.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace moesaic {
namespace {

TEST(Readings, AllArriveWhenRead) {
  Arena arena(host_memory());
  std::vector<double> losses{1.5, -2};
  std::vector<std::int64_t> counts(131);
  std::iota(counts.begin(), counts.end(), 7);
  std::vector<double> losses_read(2, 0), none;
  std::vector<std::int64_t> counts_read(131, 0);

  Readings readings(host_stream, arena);
  readings.add(host_view(losses.data(), {2}), host_view(losses_read.data(), {2}));
  readings.add(host_view(none.data(), {0}), host_view(none.data(), {0}));
  readings.add(host_view(counts.data(), {131}), host_view(counts_read.data(), {131}));
  losses[1] = 3;  // what is there when it is read counts
  EXPECT_EQ(losses_read[0], 0);
  readings.read();
  EXPECT_EQ(losses_read, (std::vector<double>{1.5, 3}));
  EXPECT_EQ(counts_read, counts);
  EXPECT_EQ(arena.used(), 0);

  losses[0] = 9;
  readings.read();  // nothing was added anew
  EXPECT_EQ(losses_read[0], 1.5);
}

}  // namespace
}  // namespace moesaic
