#include "moesaic/tensor/transfer.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "moesaic/tensor/device.hpp"

namespace moesaic {
namespace {

TEST(Transfer, OnTheCpuCopies) {
  std::vector<float> from{1, 2, 3}, to{0, 0, 0}, back{0, 0, 0};
  upload(host_stream, host_view(from.data(), {3}), host_view(to.data(), {3}));
  EXPECT_EQ(to, from);
  download(host_stream, host_view(to.data(), {3}), host_view(back.data(), {3}));
  EXPECT_EQ(back, from);
  wait_for(host_stream);
}

TEST(Device, TheCpuHasOneStreamAndHostMemory) {
  Device cpu;
  EXPECT_EQ(cpu.kind(), DeviceKind::cpu);
  EXPECT_EQ(cpu.make_stream().handle, nullptr);
  EXPECT_EQ(cpu.memory()->device(), DeviceKind::cpu);
}

}  // namespace
}  // namespace moesaic
