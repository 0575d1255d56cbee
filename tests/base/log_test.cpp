#include "moesaic/base/log.hpp"

#include <gtest/gtest.h>

namespace moesaic {
namespace {

struct Said {
  std::string out, err;
};

Said say_everything_as(int rank, const char* host) {
  set_log_identity(rank, host);
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  log_line("step {} loss {:.2f}", 3, 1.5);
  log_warn("{} leaves the node", "expert");
  log_error("cannot read {}", "a.h5");
  set_log_identity(0, "");
  return {testing::internal::GetCapturedStdout(), testing::internal::GetCapturedStderr()};
}

TEST(Log, RankZeroSpeaksPlainly) {
  const Said said = say_everything_as(0, "node01");
  EXPECT_EQ(said.out, "step 3 loss 1.50\n");
  EXPECT_EQ(said.err, "warning: expert leaves the node\nerror: cannot read a.h5\n");
}

TEST(Log, OtherRanksOnlyReportErrors) {
  const Said said = say_everything_as(17, "node03");
  EXPECT_EQ(said.out, "");
  EXPECT_EQ(said.err, "rank 17 @ node03: cannot read a.h5\n");
}

}  // namespace
}  // namespace moesaic
