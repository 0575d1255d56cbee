#include "moesaic/comm/nccl_communicator.hpp"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <exception>
#include <utility>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/row_ranges.hpp"
#include "moesaic/comm/solo_communicator.hpp"
#include "moesaic/tensor/timeline.hpp"

namespace moesaic {

namespace {

constexpr const char* advice =
    "(the GPUs can no longer exchange data); look for the first error of any rank, run with NCCL_DEBUG=INFO for "
    "details";

void check_cuda(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw RunError(fmt::format("{}: {} {}", call, cudaGetErrorString(code), advice));
}

void check_nccl(ncclResult_t code, const char* call, ncclComm_t comm = nullptr) {
  if (code == ncclSuccess) return;
  throw RunError(fmt::format("{}: {}: {} {}", call, ncclGetErrorString(code), ncclGetLastError(comm), advice));
}

cudaStream_t handle(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

/// The type NCCL adds in; sums only.
ncclDataType_t sum_type(DType type) {
  switch (type) {
    case DType::f32: return ncclFloat32;
    case DType::f64: return ncclFloat64;
    case DType::i32: return ncclInt32;
    case DType::i64: return ncclInt64;
    default: throw ContractError("sum over ranks of a type without exact or fp32 sums; convert to f32 first");
  }
}

bool on_gpu(const ConstView& view) { return view.contiguous() && (view.device() == DeviceKind::cuda || view.empty()); }

std::size_t count(std::int64_t elements) { return static_cast<std::size_t>(elements); }

}  // namespace

/// Events to lend: made on first need, used again, destroyed when the communicator and all Pendings are gone.
class NcclCommunicator::Events {
 public:
  Events() = default;
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;
  ~Events() {
    for (cudaEvent_t event : all_) cudaEventDestroy(event);
  }

  /// An event of the caller's until the last copy of the pointer is gone.
  static std::shared_ptr<CUevent_st> lend(const std::shared_ptr<Events>& events) {
    cudaEvent_t event = events->take();
    return {event, [events](cudaEvent_t returned) { events->free_.push_back(returned); }};
  }

 private:
  cudaEvent_t take() {
    if (free_.empty()) make();
    cudaEvent_t event = free_.back();
    free_.pop_back();
    return event;
  }
  void make() {
    cudaEvent_t event = nullptr;
    check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    all_.push_back(event);
    free_.reserve(all_.size());
    free_.push_back(event);
  }

  std::vector<cudaEvent_t> all_, free_;
};

NcclCommunicator::NcclCommunicator(MpiHandle bootstrap, Stream compute, Stream communication)
    : bootstrap_(std::move(bootstrap)), compute_(compute), communication_(communication), rank_(bootstrap_.rank()),
      size_(bootstrap_.size()), exceptions_at_start_(std::uncaught_exceptions()), events_(std::make_shared<Events>()) {
  ncclUniqueId id = {};
  if (rank_ == 0) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
  check_mpi(MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, bootstrap_.get()), "MPI_Bcast");
  check_nccl(ncclCommInitRank(&comm_, size_, id, rank_), "ncclCommInitRank");
}

NcclCommunicator::~NcclCommunicator() {
  ncclResult_t state = ncclSuccess;
  const bool failed = comm_ != nullptr && (ncclCommGetAsyncError(comm_, &state) != ncclSuccess || state != ncclSuccess);
  if (failed || std::uncaught_exceptions() > exceptions_at_start_) abort();
  if (comm_ == nullptr) return;
  cudaStreamSynchronize(handle(communication_));
  ncclCommDestroy(comm_);
}

void NcclCommunicator::connect(std::span<const int> peers) {
  if (peers.empty()) return;
  void* memory = nullptr;
  check_cuda(cudaMalloc(&memory, peers.size() + 1), "cudaMalloc");
  const std::unique_ptr<void, cudaError_t (*)(void*)> owner(memory, cudaFree);
  auto* received = static_cast<char*>(memory);
  const char* sent = received + peers.size();
  check_nccl(ncclGroupStart(), "ncclGroupStart");
  for (const int peer : peers) {
    check_nccl(ncclSend(sent, 1, ncclUint8, peer, comm_, handle(communication_)), "ncclSend", comm_);
    check_nccl(ncclRecv(received++, 1, ncclUint8, peer, comm_, handle(communication_)), "ncclRecv", comm_);
  }
  check_nccl(ncclGroupEnd(), "ncclGroupEnd", comm_);
  check_cuda(cudaStreamSynchronize(handle(communication_)), "cudaStreamSynchronize");
}

void NcclCommunicator::abort() {
  if (comm_ != nullptr) ncclCommAbort(comm_);
  comm_ = nullptr;
}

void NcclCommunicator::check() const {
  if (comm_ == nullptr) throw RunError(fmt::format("NCCL's communicator was aborted {}", advice));
  ncclResult_t state = ncclSuccess;
  check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError", comm_);
  if (state != ncclInProgress) check_nccl(state, "a collective on the GPU", comm_);
}

template <class Issue> Pending NcclCommunicator::run(const char* name, std::int64_t bytes, Issue&& issue) {
  if (comm_ == nullptr) check();
  const auto event = Events::lend(events_);
  // The event marks first what the collective has to wait for, then its own end.
  check_cuda(cudaEventRecord(event.get(), handle(compute_)), "cudaEventRecord");
  check_cuda(cudaStreamWaitEvent(handle(communication_), event.get(), 0), "cudaStreamWaitEvent");
  {
    const TimedSpan span(SpanKind::exchange, communication_, [&] {
      return SpanText{name, "", {0, static_cast<double>(bytes)}};
    });
    issue(handle(communication_));
  }
  if (grouping_) {
    grouped_.push_back(event);
  } else {
    check_cuda(cudaEventRecord(event.get(), handle(communication_)), "cudaEventRecord");
  }
  return Pending([event, compute = compute_] {
    check_cuda(cudaStreamWaitEvent(handle(compute), event.get(), 0), "cudaStreamWaitEvent");
  });
}

void NcclCommunicator::start_group() {
  MOESAIC_EXPECT(!grouping_);
  grouping_ = true;
  check_nccl(ncclGroupStart(), "ncclGroupStart");
}

void NcclCommunicator::end_group() {
  MOESAIC_EXPECT(grouping_);
  grouping_ = false;
  const auto events = std::exchange(grouped_, {});
  {
    const TimedSpan span(SpanKind::exchange, communication_, [] { return SpanText{"group"}; });
    check_nccl(ncclGroupEnd(), "ncclGroupEnd", comm_);
  }
  for (const auto& event : events) check_cuda(cudaEventRecord(event.get(), handle(communication_)), "cudaEventRecord");
}

Pending NcclCommunicator::initiate_all_gather(ConstView mine, View all) {
  MOESAIC_EXPECT(on_gpu(mine) && on_gpu(all) && mine.dtype() == all.dtype() && all.size() == size_ * mine.size());
  return run("all_gather", all.bytes(), [&](cudaStream_t stream) {
    check_nccl(ncclAllGather(mine.raw(), all.raw(), count(mine.bytes()), ncclUint8, comm_, stream), "ncclAllGather",
               comm_);
  });
}

Pending NcclCommunicator::initiate_reduce_scatter(ConstView all, View mine) {
  MOESAIC_EXPECT(on_gpu(mine) && on_gpu(all) && mine.dtype() == all.dtype() && all.size() == size_ * mine.size());
  return run("reduce_scatter", all.bytes(), [&](cudaStream_t stream) {
    check_nccl(
        ncclReduceScatter(all.raw(), mine.raw(), count(mine.size()), sum_type(mine.dtype()), ncclSum, comm_, stream),
        "ncclReduceScatter", comm_);
  });
}

Pending NcclCommunicator::initiate_all_reduce(View values) {
  MOESAIC_EXPECT(on_gpu(values));
  return run("all_reduce", values.bytes(), [&](cudaStream_t stream) {
    check_nccl(ncclAllReduce(values.raw(), values.raw(), count(values.size()), sum_type(values.dtype()), ncclSum, comm_,
                             stream),
               "ncclAllReduce", comm_);
  });
}

Pending NcclCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                              std::span<const std::int64_t> receive_rows) {
  MOESAIC_EXPECT(on_gpu(send) && on_gpu(receive) && send.dtype() == receive.dtype());
  const RowRanges sent(send, send_rows), received(receive, receive_rows);
  MOESAIC_EXPECT(sent.parts() == size_ && received.parts() == size_);
  const auto* from = static_cast<const char*>(send.raw());
  auto* to = static_cast<char*>(receive.raw());
  return run("all_to_all", send.bytes(), [&](cudaStream_t stream) {
    check_nccl(ncclGroupStart(), "ncclGroupStart");
    for (int r = 0; r < size_; ++r) {
      if (sent.bytes(r) > 0) {
        check_nccl(ncclSend(from + sent.offset(r), count(sent.bytes(r)), ncclUint8, r, comm_, stream), "ncclSend",
                   comm_);
      }
      if (received.bytes(r) > 0) {
        check_nccl(ncclRecv(to + received.offset(r), count(received.bytes(r)), ncclUint8, r, comm_, stream), "ncclRecv",
                   comm_);
      }
    }
    check_nccl(ncclGroupEnd(), "ncclGroupEnd", comm_);
  });
}

Pending NcclCommunicator::initiate_send(ConstView values, int to) {
  MOESAIC_EXPECT(on_gpu(values) && 0 <= to && to < size_);
  auto pending = std::make_shared<Pending>(run("send", values.bytes(), [&](cudaStream_t stream) {
    if (values.empty()) return;
    check_nccl(ncclSend(values.raw(), count(values.bytes()), ncclUint8, to, comm_, stream), "ncclSend", comm_);
  }));
  const std::int64_t mine = ++*sends_;
  return Pending([pending] { pending->complete(); }, [mine, sends = sends_] { return mine < *sends; });
}

Pending NcclCommunicator::initiate_receive(View values, int from) {
  MOESAIC_EXPECT(on_gpu(values) && 0 <= from && from < size_);
  return run("receive", values.bytes(), [&](cudaStream_t stream) {
    if (values.empty()) return;
    check_nccl(ncclRecv(values.raw(), count(values.bytes()), ncclUint8, from, comm_, stream), "ncclRecv", comm_);
  });
}

Pending NcclCommunicator::initiate_broadcast(View values, int root) {
  MOESAIC_EXPECT(on_gpu(values) && 0 <= root && root < size_);
  return run("broadcast", values.bytes(), [&](cudaStream_t stream) {
    check_nccl(ncclBroadcast(values.raw(), values.raw(), count(values.bytes()), ncclUint8, root, comm_, stream),
               "ncclBroadcast", comm_);
  });
}

void NcclCommunicator::barrier() { check_mpi(MPI_Barrier(bootstrap_.get()), "MPI_Barrier"); }

namespace {

/// Whom a rank of a group sends messages to, and receives them from. Sums and gathers need none.
enum class Messages : std::uint8_t { none, to_neighbours, to_all };

/// Makes the communicators of one rank over NCCL.
class NcclMaker {
 public:
  NcclMaker(const ProcessGrid& grid, MPI_Comm parent, const CommunicationStreams& streams, GroupsOfOne alone)
      : grid_(grid), parent_(MpiHandle::duplicate(parent)), streams_(streams), alone_(alone) {
    MOESAIC_EXPECT(parent_.size() == grid.ranks());
  }

  std::unique_ptr<Communicator> world(Stream stream) const {
    return over(MpiHandle::duplicate(parent_.get()), stream, Messages::none);
  }

  std::unique_ptr<Communicator> along(std::initializer_list<Axis> axes, Stream stream,
                                      Messages messages = Messages::none) const {
    // The lowest rank of a group names it.
    return over(MpiHandle::split(parent_.get(), grid_.group(parent_.rank(), axes).front()), stream, messages);
  }

  /// `step`: of its messages, from stage to stage.
  std::unique_ptr<Communicator> stages(const LaneStreams& streams, int step) const {
    std::vector<std::unique_ptr<Communicator>> lanes;
    const int count = LanedCommunicator::lanes(grid_.extent(Axis::pipeline));
    for (int lane = 0; lane < count; ++lane)
      lanes.push_back(along({Axis::pipeline}, streams[static_cast<std::size_t>(lane)], Messages::to_neighbours));
    return std::make_unique<LanedCommunicator>(std::move(lanes), step);
  }

 private:
  std::unique_ptr<Communicator> over(MpiHandle ranks, Stream stream, Messages messages) const {
    if (ranks.size() == 1 && alone_ == GroupsOfOne::copy) return std::make_unique<SoloCommunicator>(streams_.compute);
    auto made = std::make_unique<NcclCommunicator>(std::move(ranks), streams_.compute, stream);
    made->connect(peers(messages, made->rank(), made->size()));
    return made;
  }

  static std::vector<int> peers(Messages messages, int rank, int size) {
    std::vector<int> all;
    for (int other = 0; other < size; ++other) {
      const int distance = (other - rank + size) % size;
      const bool neighbour = distance == 1 || distance == size - 1;
      if (other == rank || messages == Messages::none) continue;
      if (messages == Messages::to_all || neighbour) all.push_back(other);
    }
    return all;
  }

  const ProcessGrid& grid_;
  MpiHandle parent_;
  const CommunicationStreams& streams_;
  GroupsOfOne alone_;
};

}  // namespace

Communicators make_nccl_communicators(const ProcessGrid& grid, MPI_Comm parent, const CommunicationStreams& streams,
                                      GroupsOfOne alone) {
  const NcclMaker make(grid, parent, streams, alone);
  Communicators result;
  result.context = make.along({Axis::context}, streams.exchange, Messages::to_neighbours);
  result.tokens = make.along({Axis::replicate, Axis::shard, Axis::context}, streams.reduce);
  result.pipeline_down = make.stages(streams.down, 1);
  result.pipeline_up = make.stages(streams.up, -1);
  result.dense_shard = make.along({Axis::shard, Axis::context}, streams.gather);
  result.dense_replicate = make.along({Axis::replicate}, streams.reduce);
  result.expert = make.along({Axis::expert}, streams.exchange, Messages::to_all);
  result.expert_shard = make.along({Axis::expert_shard}, streams.gather);
  result.expert_replicate = make.along({Axis::expert_replicate}, streams.reduce);
  result.world = make.world(streams.reduce);
  return result;
}

}  // namespace moesaic
