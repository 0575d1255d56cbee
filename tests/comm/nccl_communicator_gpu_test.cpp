#include "moesaic/comm/nccl_communicator.hpp"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/mpi_session.hpp"

namespace moesaic {
namespace {

/// A copy of host values in GPU memory.
class OnDevice {
 public:
  explicit OnDevice(const std::vector<float>& values) : size_(values.size()) {
    cudaMalloc(&data_, values.size() * sizeof(float));
    cudaMemcpy(data_, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();  // a copy from pageable memory may still be on its way
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { cudaFree(data_); }

  View view(Extents extents) const { return View(data_, DType::f32, DeviceKind::cuda, extents); }
  View view() const { return view({static_cast<std::int64_t>(size_)}); }
  /// What is there once the stream has come to this point.
  std::vector<float> values(cudaStream_t stream) const {
    std::vector<float> result(size_);
    cudaMemcpyAsync(result.data(), data_, size_ * sizeof(float), cudaMemcpyDeviceToHost, stream);
    cudaStreamSynchronize(stream);
    return result;
  }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

/// One rank on one GPU: every collective against the one over MPI. (device_exchange_gpu_test.cpp has groups of several.)
struct NcclCommunicatorTest : ::testing::Test {
  Arena arena{host_memory()};
  std::unique_ptr<MpiCommunicator> host;
  std::unique_ptr<NcclCommunicator> gpu;
  cudaStream_t compute = nullptr, communication = nullptr;

  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no CUDA device on this machine";
    cudaSetDevice(MpiSession().local_rank() % devices);
    cudaStreamCreateWithFlags(&compute, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&communication, cudaStreamNonBlocking);
    host = std::make_unique<MpiCommunicator>(MpiHandle::duplicate(MPI_COMM_SELF), arena);
    gpu = std::make_unique<NcclCommunicator>(MpiHandle::duplicate(MPI_COMM_SELF), Stream{DeviceKind::cuda, compute},
                                             Stream{DeviceKind::cuda, communication});
  }
  void TearDown() override {
    if (!compute) return;
    if (gpu) {
      EXPECT_NO_THROW(gpu->check());
    }
    gpu.reset();
    cudaStreamDestroy(compute);
    cudaStreamDestroy(communication);
  }

  const std::vector<float> a{1, 2, 3, 4, 5, 6}, zeros = std::vector<float>(6, 0.0f);
};

TEST_F(NcclCommunicatorTest, IsRankZeroOfOne) {
  EXPECT_EQ(gpu->rank(), 0);
  EXPECT_EQ(gpu->size(), 1);
  gpu->barrier();
}

TEST_F(NcclCommunicatorTest, GathersAndReducesAsTheHostDoes) {
  std::vector<float> mine = a, all = zeros, part = zeros, sum = a;
  const OnDevice gpu_mine(a), gpu_all(zeros), gpu_part(zeros), gpu_sum(a);
  host->all_gather(host_view(mine.data(), {6}), host_view(all.data(), {6}));
  host->reduce_scatter(host_view(all.data(), {6}), host_view(part.data(), {6}));
  host->all_reduce(host_view(sum.data(), {6}));
  gpu->all_gather(gpu_mine.view(), gpu_all.view());
  gpu->reduce_scatter(gpu_all.view(), gpu_part.view());
  gpu->all_reduce(gpu_sum.view());
  EXPECT_EQ(gpu_all.values(compute), all);
  EXPECT_EQ(gpu_part.values(compute), part);
  EXPECT_EQ(gpu_sum.values(compute), sum);
}

TEST_F(NcclCommunicatorTest, AllToAllMovesRowsAndSkipsNone) {
  std::vector<float> send = a, receive = zeros;
  const OnDevice gpu_send(a), gpu_receive(zeros);
  for (const std::int64_t count : {2, 0}) {
    const std::vector<std::int64_t> rows{count};
    host->all_to_all(host_view(send.data(), {3, 2}), rows, host_view(receive.data(), {3, 2}), rows);
    gpu->all_to_all(gpu_send.view({3, 2}), rows, gpu_receive.view({3, 2}), rows);
    EXPECT_EQ(gpu_receive.values(compute), receive);
  }
  EXPECT_EQ(receive, (std::vector<float>{1, 2, 3, 4, 0, 0}));
}

TEST_F(NcclCommunicatorTest, SendsToItselfWithinAGroup) {
  const OnDevice sent(a), received(zeros);
  gpu->start_group();
  Pending send = gpu->initiate_send(sent.view(), 0);
  Pending receive = gpu->initiate_receive(received.view(), 0);
  gpu->end_group();
  receive.complete();
  send.complete();
  EXPECT_EQ(received.values(compute), a);
}

TEST_F(NcclCommunicatorTest, BroadcastKeepsTheRootsValues) {
  const OnDevice values(a);
  gpu->broadcast(values.view(), 0);
  EXPECT_EQ(values.values(compute), a);
}

TEST_F(NcclCommunicatorTest, WaitsForTheComputeStreamAndOrdersIt) {
  // Large enough that a missing order would show: fill, sum, copy, each on the stream it belongs to.
  constexpr std::size_t size = std::size_t{1} << 24;
  const OnDevice values(std::vector<float>(size, 1.0f)), copy(std::vector<float>(size, 2.0f));
  cudaMemsetAsync(values.view().raw(), 0, size * sizeof(float), compute);
  Pending gather = gpu->initiate_all_gather(values.view(), copy.view());
  gather.complete();
  EXPECT_EQ(copy.values(compute), std::vector<float>(size, 0.0f));
}

TEST_F(NcclCommunicatorTest, ConnectsToNobodyOrItself) {
  const int itself = 0;
  gpu->connect({});
  gpu->connect({&itself, 1});
}

TEST_F(NcclCommunicatorTest, ASendIsDoneWhenTheNextOneIsInitiated) {
  const OnDevice sent(a), received(zeros);
  const auto to_itself = [&] {
    gpu->start_group();
    Pending send = gpu->initiate_send(sent.view(), 0);
    gpu->initiate_receive(received.view(), 0);
    gpu->end_group();
    return send;
  };
  Pending first = to_itself();
  EXPECT_FALSE(first.done());
  Pending second = to_itself();
  EXPECT_TRUE(first.done());
  EXPECT_FALSE(second.done());
  second.complete();
  EXPECT_EQ(received.values(compute), a);
}

TEST_F(NcclCommunicatorTest, AfterAnAbortEverythingFails) {
  const OnDevice values(a);
  gpu->all_reduce(values.view());
  gpu->abort();
  EXPECT_THROW(gpu->check(), RunError);
  EXPECT_THROW(gpu->all_reduce(values.view()), RunError);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  gpu->abort();
  gpu.reset();
}

TEST_F(NcclCommunicatorTest, IsAbortedByAnException) {
  const auto fails = [&] {
    const std::unique_ptr<NcclCommunicator> dies = std::move(gpu);
    throw RunError("elsewhere");
  };
  EXPECT_THROW(fails(), RunError);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

/// On several devices: a rank waits for one that never comes, and is freed.
TEST_F(NcclCommunicatorTest, AnAbortEndsWhatNobodyElseJoins) {
  const MpiSession session;
  int devices = 0;
  cudaGetDeviceCount(&devices);
  if (session.size() == 1 || session.local_size() > devices) GTEST_SKIP() << "needs ranks with devices of their own";
  const OnDevice values(a);
  NcclCommunicator ranks(MpiHandle::duplicate(MPI_COMM_WORLD), Stream{DeviceKind::cuda, compute},
                         Stream{DeviceKind::cuda, communication});
  if (session.rank() == 0) {
    ranks.all_reduce(values.view());
    EXPECT_NO_THROW(ranks.check());
    EXPECT_EQ(cudaStreamQuery(compute), cudaErrorNotReady);
    ranks.abort();
    EXPECT_EQ(cudaStreamSynchronize(compute), cudaSuccess);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  ranks.abort();
}

TEST_F(NcclCommunicatorTest, MakesTheCommunicatorsOfAGrid) {
  const Stream stream{DeviceKind::cuda, communication};
  const LaneStreams lanes{stream, stream, stream};
  const Communicators comms = make_nccl_communicators(
      ProcessGrid::make({}, 1), MPI_COMM_SELF, {{DeviceKind::cuda, compute}, stream, stream, stream, lanes, lanes});
  for (const auto* comm : {&comms.world, &comms.context, &comms.tokens, &comms.dense_shard, &comms.dense_replicate,
                           &comms.expert, &comms.expert_shard, &comms.expert_replicate}) {
    EXPECT_EQ((*comm)->size(), 1);
  }
}

}  // namespace
}  // namespace moesaic
