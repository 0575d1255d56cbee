#include "moesaic/comm/ipc_communicator.hpp"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "device_sum.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/comm/row_ranges.hpp"
#include "moesaic/tensor/cuda_memory.hpp"

namespace moesaic {
namespace {

using Address = IpcMemory::Address;
static_assert(IpcMemory::most_readers <= DeviceParts::most);

/// Addresses as the host's communicator sends them.
ConstView sent(const std::vector<Address>& addresses) {
  return host_view(reinterpret_cast<const std::uint8_t*>(addresses.data()),
                   {std::ssize(addresses), std::int64_t{sizeof(Address)}});
}
View received(std::vector<Address>& addresses) {
  return host_view(reinterpret_cast<std::uint8_t*>(addresses.data()),
                   {std::ssize(addresses), std::int64_t{sizeof(Address)}});
}

void check_bytes(const Address& address, std::int64_t expected) {
  if (address.bytes != expected)
    throw RunError(
        fmt::format("a rank of the group lends {} bytes where {} were expected (the ranks disagree about what they "
                    "exchange); check that all ranks run the same program with the same deck",
                    address.bytes, expected));
}

std::byte* place(const View& view, std::int64_t offset) { return static_cast<std::byte*>(view.raw()) + offset; }

}  // namespace

/// Addresses on their way, and what reads behind them.
struct IpcCommunicator::Letters {
  std::shared_ptr<IpcMemory> memory;
  Stream stream;
  int rank;
  std::vector<Address> mine, theirs;

  /// `bytes` of what `r` lends, to `to`.
  void copy(int r, std::int64_t bytes, void* to) const {
    check_bytes(from(r), bytes);
    if (bytes > 0)
      check_cuda(cudaMemcpyAsync(to, memory->borrow(from(r)), static_cast<std::size_t>(bytes), cudaMemcpyDeviceToDevice,
                                 cuda_stream(stream)),
                 "cudaMemcpyAsync");
  }
  /// out = the sum over ranks of what lies `offset` behind the beginning of what they lend, `bytes` in all.
  void sum(std::int64_t bytes, std::int64_t offset, View out) const {
    DeviceParts parts{.data = {}, .count = static_cast<int>(theirs.size())};
    for (std::size_t r = 0; r < theirs.size(); ++r) {
      check_bytes(theirs[r], bytes);
      parts.data[r] = memory->borrow(theirs[r]) + offset;
    }
    if (!sum_on_device(parts, out.dtype(), out.raw(), out.size(), cuda_stream(stream)))
      throw ContractError("sum over ranks of a type without exact or fp32 sums; convert to f32 first");
    check_cuda(cudaGetLastError(), "a sum over ranks");
  }
  void give_back() const {
    for (const Address& address : theirs) memory->give_back(address, rank);
  }
  const Address& from(int r) const { return theirs[static_cast<std::size_t>(r)]; }
};

template <class Read> Pending IpcCommunicator::share(ConstView values, Read&& read) {
  auto letters = std::make_shared<Letters>(Letters{memory_, stream_, rank(), {memory_->lend(values, size())}, {}});
  letters->theirs.resize(static_cast<std::size_t>(size()));
  auto told = std::make_shared<Pending>(host_->initiate_all_gather(sent(letters->mine), received(letters->theirs)));
  return Pending([letters, told, read = std::forward<Read>(read)] {
    told->complete();
    read(*letters);
    letters->give_back();
  });
}

Pending IpcCommunicator::initiate_all_gather(ConstView mine, View all) {
  MOESAIC_EXPECT(all.contiguous() && mine.dtype() == all.dtype() && all.size() == size() * mine.size());
  return share(mine, [all, bytes = mine.bytes(), size = size()](const Letters& letters) {
    for (int r = 0; r < size; ++r) letters.copy(r, bytes, place(all, r * bytes));
  });
}

Pending IpcCommunicator::initiate_reduce_scatter(ConstView all, View mine) {
  MOESAIC_EXPECT(mine.contiguous() && mine.dtype() == all.dtype() && all.size() == size() * mine.size());
  return share(all, [mine, bytes = all.bytes()](const Letters& letters) {
    letters.sum(bytes, letters.rank * mine.bytes(), mine);
  });
}

Pending IpcCommunicator::initiate_all_reduce(View values) {
  MOESAIC_EXPECT(values.contiguous());
  return share(values, [values](const Letters& letters) { letters.sum(values.bytes(), 0, values); });
}

Pending IpcCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                             std::span<const std::int64_t> receive_rows) {
  const RowRanges leaving(send, send_rows), arriving(receive, receive_rows);
  MOESAIC_EXPECT(leaving.parts() == size() && arriving.parts() == size());
  const Address whole = memory_->lend(send, size());
  auto letters = std::make_shared<Letters>(Letters{memory_, stream_, rank(), {}, {}});
  for (int r = 0; r < size(); ++r)
    letters->mine.push_back({whole.handle, whole.words, whole.data + leaving.offset(r), leaving.bytes(r)});
  letters->theirs.resize(letters->mine.size());
  const std::vector<std::int64_t> one(letters->mine.size(), 1);
  auto told =
      std::make_shared<Pending>(host_->initiate_all_to_all(sent(letters->mine), one, received(letters->theirs), one));
  return Pending([letters, told, receive, arriving] {
    told->complete();
    for (int r = 0; r < arriving.parts(); ++r)
      letters->copy(r, arriving.bytes(r), arriving.bytes(r) > 0 ? place(receive, arriving.offset(r)) : nullptr);
    letters->give_back();
  });
}

Pending IpcCommunicator::initiate_send(ConstView values, int to) {
  auto letters = std::make_shared<Letters>(Letters{memory_, stream_, rank(), {memory_->lend(values, 1)}, {}});
  auto told = std::make_shared<Pending>(host_->initiate_send(sent(letters->mine), to));
  return Pending([letters, told] { told->complete(); }, [letters, told] { return told->done(); });
}

Pending IpcCommunicator::initiate_receive(View values, int from) {
  MOESAIC_EXPECT(values.contiguous());
  constexpr int only_reader = 0;
  auto letters = std::make_shared<Letters>(Letters{memory_, stream_, only_reader, {}, std::vector<Address>(1)});
  auto told = std::make_shared<Pending>(host_->initiate_receive(received(letters->theirs), from));
  return Pending([letters, told, values] {
    told->complete();
    letters->copy(0, values.bytes(), values.raw());
    letters->give_back();
  });
}

Pending IpcCommunicator::initiate_broadcast(View values, int root) {
  MOESAIC_EXPECT(values.contiguous());
  auto letters = std::make_shared<Letters>(Letters{memory_, stream_, rank(), {}, std::vector<Address>(1)});
  if (rank() == root) letters->theirs[0] = memory_->lend(values, size());
  auto told = std::make_shared<Pending>(host_->initiate_broadcast(received(letters->theirs), root));
  return Pending([letters, told, values, is_root = rank() == root] {
    told->complete();
    if (!is_root) letters->copy(0, values.bytes(), values.raw());
    letters->give_back();
  });
}

}  // namespace moesaic
