#include "moesaic/comm/ipc_memory.hpp"

#include <algorithm>
#include <cstring>
#include <exception>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic {
namespace {

static_assert(sizeof(cudaIpcMemHandle_t) == sizeof(IpcMemory::Address::handle));

using Word = std::uint32_t;  // of a reader; not zero: it has read
constexpr std::int64_t words_bytes = IpcMemory::most_readers * std::int64_t{sizeof(Word)};

bool on_one_host(const MpiHandle& ranks) {
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(ranks.get(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  int here = 0;
  MPI_Comm_size(host, &here);
  MPI_Comm_free(&host);
  return here == ranks.size();
}

}  // namespace

/// Allocations of this rank that others may open.
class IpcMemory::Blocks final : public MemorySource {
 public:
  explicit Blocks(int device) : memory_(device_memory(device)) {}

  DeviceKind device() const override { return DeviceKind::cuda; }
  void* acquire(std::int64_t bytes) override {
    void* block = memory_->acquire(bytes);
    cudaIpcMemHandle_t handle;
    check_cuda(cudaIpcGetMemHandle(&handle, block), "cudaIpcGetMemHandle");
    std::memcpy(handles_[static_cast<std::byte*>(block)].data(), &handle, sizeof handle);
    return block;
  }
  void release(void* block, std::int64_t bytes) noexcept override {
    if (!abandoned) memory_->release(block, bytes);
  }

  /// The block that holds `data`: where it begins, and its handle.
  const std::pair<std::byte* const, Handle>& around(const void* data) const {
    return *std::prev(handles_.upper_bound(const_cast<std::byte*>(static_cast<const std::byte*>(data))));
  }
  /// Where the block of a handle begins; null where it is another rank's.
  std::byte* own(const Handle& handle) const {
    const auto found = std::ranges::find(handles_, handle, &std::pair<std::byte* const, Handle>::second);
    return found == handles_.end() ? nullptr : found->first;
  }

  bool abandoned = false;  ///< blocks stay as they are: others may be reading

 private:
  std::unique_ptr<MemorySource> memory_;
  std::map<std::byte*, Handle> handles_;
};

std::shared_ptr<IpcMemory> IpcMemory::make(MPI_Comm parent, int device, Stream stream) {
  MpiHandle ranks = MpiHandle::duplicate(parent);
  if (ranks.size() > most_readers || !on_one_host(ranks)) return nullptr;
  auto memory = std::make_shared<IpcMemory>(std::move(ranks), device, stream);
  if (!memory->opens_all()) return nullptr;
  return memory;
}

IpcMemory::IpcMemory(MpiHandle ranks, int device, Stream stream)
    : ranks_(std::move(ranks)), exceptions_at_start_(std::uncaught_exceptions()), stream_(stream) {
  auto blocks = std::make_unique<Blocks>(device);
  blocks_ = blocks.get();
  pieces_ = std::make_unique<Arena>(std::move(blocks));
}

IpcMemory::~IpcMemory() {
  blocks_->abandoned = std::uncaught_exceptions() > exceptions_at_start_;
  if (!blocks_->abandoned) {
    cudaStreamSynchronize(cuda_stream(stream_));
    for (const auto& [handle, block] : opened_) cudaIpcCloseMemHandle(block);
    MPI_Barrier(ranks_.get());  // before their owners free them
  }
  lent_.clear();
}

bool IpcMemory::opens_all() {
  int good = 1;
  std::vector<Address> all(static_cast<std::size_t>(ranks_.size()));
  Address mine;
  try {
    mine = lend({}, 0);
  } catch (const RunError&) {
    cudaGetLastError();
    good = 0;
  }
  check_mpi(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, ranks_.get()),
            "MPI_Allgather");
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, ranks_.get()), "MPI_Allreduce");
  try {
    for (const Address& address : all)
      if (good == 1) borrow(address);
  } catch (const RunError&) {
    cudaGetLastError();
    good = 0;
  }
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &good, 1, MPI_INT, MPI_MIN, ranks_.get()), "MPI_Allreduce");
  return good == 1;
}

IpcMemory::Address IpcMemory::lend(ConstView values, int readers) {
  MOESAIC_EXPECT(readers <= most_readers && values.contiguous());
  const std::int64_t bytes = values.absent() ? 0 : values.bytes();
  Buffer memory = pieces_->allocate(words_bytes + bytes, Label::exchange);
  auto* words = static_cast<std::byte*>(memory.data());
  check_cuda(cudaMemsetAsync(words, 0, words_bytes, cuda_stream(stream_)), "cudaMemsetAsync");
  if (bytes > 0)
    check_cuda(cudaMemcpyAsync(words + words_bytes, values.raw(), static_cast<std::size_t>(bytes),
                               cudaMemcpyDeviceToDevice, cuda_stream(stream_)),
               "cudaMemcpyAsync");
  synchronise(stream_);
  const auto& [block, handle] = blocks_->around(words);
  lent_.remove_if([&](const Lent& lent) { return given_back(lent); });
  lent_.push_back({std::move(memory), readers});
  return {handle, words - block, words - block + words_bytes, bytes};
}

bool IpcMemory::given_back(const Lent& lent) const {
  std::array<Word, most_readers> words{};
  check_cuda(
      cudaMemcpyAsync(words.data(), lent.memory.data(), words_bytes, cudaMemcpyDeviceToHost, cuda_stream(stream_)),
      "cudaMemcpyAsync");
  synchronise(stream_);
  return std::all_of(words.begin(), words.begin() + lent.readers, [](Word word) { return word != 0; });
}

std::byte* IpcMemory::at(const Handle& handle, std::int64_t offset) {
  if (std::byte* block = blocks_->own(handle)) return block + offset;
  std::byte*& block = opened_[handle];
  if (block == nullptr) {
    cudaIpcMemHandle_t theirs;
    std::memcpy(&theirs, handle.data(), sizeof theirs);
    void* opened = nullptr;
    const cudaError_t status = cudaIpcOpenMemHandle(&opened, theirs, cudaIpcMemLazyEnablePeerAccess);
    if (status != cudaSuccess) opened_.erase(handle);
    check_cuda(status, "cudaIpcOpenMemHandle");
    block = static_cast<std::byte*>(opened);
  }
  return block + offset;
}

const std::byte* IpcMemory::borrow(const Address& address) { return at(address.handle, address.data); }

void IpcMemory::give_back(const Address& address, int reader) {
  std::byte* word = at(address.handle, address.words) + reader * std::int64_t{sizeof(Word)};
  check_cuda(cudaMemsetAsync(word, 0xff, sizeof(Word), cuda_stream(stream_)), "cudaMemsetAsync");
}

}  // namespace moesaic
