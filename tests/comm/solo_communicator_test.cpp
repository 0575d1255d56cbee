#include "moesaic/comm/solo_communicator.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

View flat(std::vector<float>& values) { return host_view(values.data(), {std::ssize(values)}); }

TEST(SoloCommunicator, GivesBackWhatItIsGiven) {
  SoloCommunicator alone(host_stream);
  std::vector<float> mine{1, 2, 3}, gathered(3), scattered(3), received(3);
  const std::int64_t rows = 3;
  alone.all_gather(flat(mine), flat(gathered));
  alone.reduce_scatter(flat(mine), flat(scattered));
  alone.all_to_all(flat(mine), {&rows, 1}, flat(received), {&rows, 1});
  EXPECT_EQ(gathered, mine);
  EXPECT_EQ(scattered, mine);
  EXPECT_EQ(received, mine);
  alone.all_reduce(flat(mine));
  alone.broadcast(flat(mine), 0);
  EXPECT_EQ(mine, (std::vector<float>{1, 2, 3}));
  EXPECT_THROW(alone.initiate_send(flat(mine), 0), RunError);
}

}  // namespace
}  // namespace moesaic
