// Ranks: 1 2 3 4
// Every way in which device memory goes from rank to rank, against the communicator of host memory: over NCCL where every
// rank has a device of its own, through CUDA's inter-process memory and through the host where ranks share one.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/device_communicators.hpp"
#include "moesaic/comm/ipc_communicator.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/comm/nccl_communicator.hpp"
#include "moesaic/comm/routed_communicator.hpp"
#include "moesaic/comm/staged_communicator.hpp"

namespace moesaic {
namespace {

/// Host values and a copy of them in device memory.
template <class T> class Both {
 public:
  explicit Both(std::vector<T> values) : host_(std::move(values)) {
    cudaMalloc(&device_, std::max<std::size_t>(bytes(), 1));
    cudaMemcpy(device_, host_.data(), bytes(), cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();  // a copy from pageable memory may still be on its way
  }
  Both(std::int64_t size, T value) : Both(std::vector<T>(static_cast<std::size_t>(size), value)) {}
  Both(const Both&) = delete;
  Both& operator=(const Both&) = delete;
  ~Both() { cudaFree(device_); }

  View host(Extents extents) { return host_view(host_.data(), extents); }
  View host() { return host({std::ssize(host_)}); }
  View device(Extents extents) const { return View(device_, dtype_of<T>::value, DeviceKind::cuda, extents); }
  View device() const { return device({std::ssize(host_)}); }

  std::vector<T>& values() { return host_; }
  /// Whether both hold the same bits, once the stream has come to this point.
  bool same(Stream stream) const {
    std::vector<T> read(host_.size());
    const auto handle = static_cast<cudaStream_t>(stream.handle);
    cudaMemcpyAsync(read.data(), device_, bytes(), cudaMemcpyDeviceToHost, handle);
    cudaStreamSynchronize(handle);
    return read.empty() || std::memcmp(read.data(), host_.data(), bytes()) == 0;
  }

 private:
  std::size_t bytes() const { return host_.size() * sizeof(T); }

  std::vector<T> host_;
  void* device_ = nullptr;
};

class DeviceExchangeTest : public ::testing::TestWithParam<DeviceExchange> {
 protected:
  void SetUp() override {
    if (num_devices() == 0) GTEST_SKIP() << "no CUDA device (or driver) on this machine";
    device = Device::cuda(session.local_rank() % num_devices());
    int most = ranks_on_device(MPI_COMM_WORLD, device);
    MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (GetParam() == DeviceExchange::nccl && most > 1) GTEST_SKIP() << "NCCL needs a device for each rank";
    stream = device.make_stream();
    auto host = std::make_unique<MpiCommunicator>(MpiHandle::duplicate(MPI_COMM_WORLD), scratch);
    auto on_device = make(*host);
    ASSERT_TRUE(on_device);
    made = std::make_unique<RoutedCommunicator>(std::move(host), std::move(on_device));
  }

  std::unique_ptr<Communicator> make(Communicator& host) {
    if (GetParam() == DeviceExchange::staged) return std::make_unique<StagedCommunicator>(host, scratch, stream);
    if (GetParam() == DeviceExchange::nccl)
      return std::make_unique<NcclCommunicator>(MpiHandle::duplicate(MPI_COMM_WORLD), stream, device.make_stream());
    const auto memory = IpcMemory::make(MPI_COMM_WORLD, device.index(), stream);
    return memory ? std::make_unique<IpcCommunicator>(host, memory, stream) : nullptr;
  }

  int rank() const { return session.rank(); }
  int size() const { return session.size(); }
  Communicator& ranks() { return *made; }

  /// A value that depends on rank and index. Sums round, but for NCCL, which takes them in its own order.
  template <class T> T value(std::int64_t i) const {
    if (GetParam() == DeviceExchange::nccl || std::is_same_v<T, std::uint8_t>)
      return static_cast<T>(100 * rank() + i % 1000);
    return static_cast<T>(std::sin(static_cast<double>(i % 4096) * 1.7 + rank()) *
                          std::pow(10.0, static_cast<double>((i + rank()) % 7)));
  }
  template <class T> std::vector<T> values(std::int64_t count) const {
    std::vector<T> result(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) result[static_cast<std::size_t>(i)] = value<T>(i);
    return result;
  }

  template <class T> void expect_sums() {
    for (const std::int64_t count : {0, 1, 131, 600'011}) {
      Both<T> sums(values<T>(count));
      ranks().all_reduce(sums.host());
      ranks().all_reduce(sums.device());
      EXPECT_TRUE(sums.same(stream)) << count;
      Both<T> all(values<T>(count * size())), mine(count, T(-1));
      ranks().reduce_scatter(all.host(), mine.host());
      ranks().reduce_scatter(all.device(), mine.device());
      EXPECT_TRUE(mine.same(stream)) << count;
      EXPECT_TRUE(all.same(stream)) << count;
    }
  }

  MpiSession session;
  Arena scratch{host_memory()};
  Device device;
  Stream stream;
  std::unique_ptr<Communicator> made;
};

INSTANTIATE_TEST_SUITE_P(Ways, DeviceExchangeTest,
                         ::testing::Values(DeviceExchange::nccl, DeviceExchange::ipc, DeviceExchange::staged),
                         [](const auto& way) -> std::string {
                           if (way.param == DeviceExchange::staged) return "Staged";
                           return way.param == DeviceExchange::ipc ? "Ipc" : "Nccl";
                         });

TEST_P(DeviceExchangeTest, KnowsItsRanks) {
  EXPECT_EQ(ranks().rank(), rank());
  EXPECT_EQ(ranks().size(), size());
  ranks().barrier();
}

TEST_P(DeviceExchangeTest, Gathers) {
  for (const std::int64_t count : {0, 1, 131, 100'003}) {
    Both<std::uint8_t> mine(values<std::uint8_t>(count)), all(count * size(), 255);
    ranks().all_gather(mine.host(), all.host());
    ranks().all_gather(mine.device(), all.device());
    EXPECT_TRUE(all.same(stream)) << count;
  }
}

TEST_P(DeviceExchangeTest, GathersInPlace) {
  Both<float> all(values<float>(7 * size()));
  ranks().all_gather(all.host().rows(7 * rank(), 7 * rank() + 7), all.host());
  ranks().all_gather(all.device().rows(7 * rank(), 7 * rank() + 7), all.device());
  EXPECT_TRUE(all.same(stream));
}

TEST_P(DeviceExchangeTest, SumsInRankOrder) {
  expect_sums<float>();
  expect_sums<double>();
  expect_sums<std::int32_t>();
  expect_sums<std::int64_t>();
}

TEST_P(DeviceExchangeTest, MovesUnevenRows) {
  // Rank s sends (s + r) % 3 rows of two to rank r, so some get none.
  std::vector<std::int64_t> sent, received;
  for (int r = 0; r < size(); ++r) sent.push_back((rank() + r) % 3);
  received = sent;
  const std::int64_t rows = std::accumulate(sent.begin(), sent.end(), std::int64_t{0});
  Both<double> send(values<double>(2 * rows)), receive(2 * rows, -1.0);
  ranks().all_to_all(send.host({rows, 2}), sent, receive.host({rows, 2}), received);
  ranks().all_to_all(send.device({rows, 2}), sent, receive.device({rows, 2}), received);
  EXPECT_TRUE(receive.same(stream));
}

TEST_P(DeviceExchangeTest, MovesAllRowsToOneRank) {
  std::vector<std::int64_t> sent(static_cast<std::size_t>(size()), 0), received = sent;
  sent[0] = 1000 + rank();
  std::int64_t arriving = 0;
  for (int r = 0; rank() == 0 && r < size(); ++r) arriving += received[static_cast<std::size_t>(r)] = 1000 + r;
  Both<std::int32_t> send(values<std::int32_t>(1000 + rank())), receive(arriving, -1);
  ranks().all_to_all(send.host(), sent, receive.host(), received);
  ranks().all_to_all(send.device(), sent, receive.device(), received);
  EXPECT_TRUE(receive.same(stream));
}

TEST_P(DeviceExchangeTest, GoesRoundARing) {
  const int next = (rank() + 1) % size(), previous = (rank() + size() - 1) % size();
  for (const std::int64_t count : {0, 5, 300'007}) {
    Both<float> mine(values<float>(count)), theirs(count, -1.0f);
    Pending on_host[] = {ranks().initiate_receive(theirs.host(), previous), ranks().initiate_send(mine.host(), next)};
    for (Pending& pending : on_host) pending.complete();
    ranks().start_group();
    Pending send = ranks().initiate_send(mine.device(), next);
    Pending receive = ranks().initiate_receive(theirs.device(), previous);
    ranks().end_group();
    send.complete();
    receive.complete();
    EXPECT_TRUE(theirs.same(stream)) << count;
  }
}

TEST_P(DeviceExchangeTest, MessagesOfAPairKeepTheirOrder) {
  if (size() == 1) GTEST_SKIP() << "needs two ranks";
  Both<float> first(5, 1.0f), second(6, 2.0f);
  if (rank() == 0) {
    Pending a = ranks().initiate_send(first.device(), 1), b = ranks().initiate_send(second.device(), 1);
    EXPECT_TRUE(GetParam() != DeviceExchange::nccl || (a.done() && !b.done()));
    a.complete();
    b.complete();
  } else if (rank() == 1) {
    Both<float> one(5, 0.0f), two(6, 0.0f);
    Pending a = ranks().initiate_receive(one.device(), 0), b = ranks().initiate_receive(two.device(), 0);
    a.complete();
    b.complete();
    one.values() = first.values();
    two.values() = second.values();
    EXPECT_TRUE(one.same(stream) && two.same(stream));
  }
}

TEST_P(DeviceExchangeTest, BroadcastsFromEveryRoot) {
  for (int root = 0; root < size(); ++root) {
    Both<double> told(values<double>(131));
    ranks().broadcast(told.host(), root);
    ranks().broadcast(told.device(), root);
    EXPECT_TRUE(told.same(stream)) << root;
  }
}

TEST_P(DeviceExchangeTest, KeepsWhatIsUnderWayApart) {
  Both<float> gathered(3 * size(), 0.0f), mine(values<float>(3)), sums(values<float>(5000)), few(values<float>(9));
  for (const bool on_device : {false, true}) {
    const auto view = [on_device](Both<float>& of) { return on_device ? of.device() : of.host(); };
    Pending a = ranks().initiate_all_gather(view(mine), view(gathered));
    Pending b = ranks().initiate_all_reduce(view(sums));
    Pending c = ranks().initiate_all_reduce(view(few));
    c.complete();
    b.complete();
    a.complete();
  }
  EXPECT_TRUE(gathered.same(stream) && sums.same(stream) && few.same(stream));
}

TEST_P(DeviceExchangeTest, WaitsForTheStreamAndOrdersIt) {
  // Large enough that a missing order would show: what is sent is written just before, and written over just behind.
  constexpr std::int64_t count = 1 << 22;
  Both<std::int32_t> mine(count, -1), all(count * size(), -1);
  const auto fill = [&](int byte) {
    cudaMemsetAsync(mine.device().raw(), byte, count * sizeof(std::int32_t), static_cast<cudaStream_t>(stream.handle));
  };
  for (int round = 0; round < 20; ++round) {
    fill(round + rank());
    ranks().all_gather(mine.device(), all.device());
    fill(255);
  }
  for (std::int64_t i = 0; i < count * size(); ++i)
    std::memset(&all.values()[static_cast<std::size_t>(i)], static_cast<int>(19 + i / count), sizeof(std::int32_t));
  EXPECT_TRUE(all.same(stream));
}

TEST_P(DeviceExchangeTest, TellsOfRanksThatDisagree) {
  if (GetParam() == DeviceExchange::nccl || size() == 1) GTEST_SKIP() << "NCCL does not check; one rank agrees";
  Both<float> values(3, 1.0f);
  if (rank() == 0) ranks().initiate_send(values.device(), 1).complete();
  if (rank() == 1) {
    EXPECT_THROW(ranks().initiate_receive(values.device().rows(0, 2), 0).complete(), RunError);
  }
}

}  // namespace
}  // namespace moesaic
