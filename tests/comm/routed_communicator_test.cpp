#include "moesaic/comm/routed_communicator.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace moesaic {
namespace {

/// Writes down what it is asked for.
class Notes final : public Communicator {
 public:
  Notes(std::string name, std::vector<std::string>& log) : name_(std::move(name)), log_(log) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Pending initiate_all_gather(ConstView, View) override { return note("all_gather"); }
  Pending initiate_reduce_scatter(ConstView, View) override { return note("reduce_scatter"); }
  Pending initiate_all_reduce(View) override { return note("all_reduce"); }
  Pending initiate_all_to_all(ConstView, std::span<const std::int64_t>, View, std::span<const std::int64_t>) override {
    return note("all_to_all");
  }
  Pending initiate_send(ConstView, int) override { return note("send"); }
  Pending initiate_receive(View, int) override { return note("receive"); }
  Pending initiate_broadcast(View, int) override { return note("broadcast"); }
  void barrier() override { note("barrier"); }
  void start_group() override { note("start_group"); }
  void end_group() override { note("end_group"); }

 private:
  Pending note(const std::string& what) {
    log_.push_back(name_ + " " + what);
    return {};
  }
  std::string name_;
  std::vector<std::string>& log_;
};

TEST(RoutedCommunicator, GoesByWhereTheMemoryIs) {
  std::vector<std::string> log;
  RoutedCommunicator routed(std::make_unique<Notes>("host", log), std::make_unique<Notes>("device", log));
  float value = 0;
  const std::int64_t one = 1;
  for (const DeviceKind kind : {DeviceKind::cpu, DeviceKind::cuda}) {
    const View view(&value, DType::f32, kind, {1});
    routed.all_gather(view, view);
    routed.reduce_scatter(view, view);
    routed.all_reduce(view);
    routed.all_to_all(view, {&one, 1}, view, {&one, 1});
    routed.initiate_send(view, 0);
    routed.initiate_receive(view, 0);
    routed.broadcast(view, 0);
  }
  routed.start_group();
  routed.end_group();
  routed.barrier();
  std::vector<std::string> expected;
  for (const std::string way : {"host ", "device "})
    for (const char* verb :
         {"all_gather", "reduce_scatter", "all_reduce", "all_to_all", "send", "receive", "broadcast"})
      expected.push_back(way + verb);
  expected.insert(expected.end(), {"device start_group", "device end_group", "host barrier"});
  EXPECT_EQ(log, expected);
}

}  // namespace
}  // namespace moesaic
