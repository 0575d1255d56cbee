#include "moesaic/comm/mpi_communicator.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/rank_order_sum.hpp"
#include "moesaic/comm/row_ranges.hpp"
#include "moesaic/grid/block.hpp"

namespace moesaic {

namespace {

constexpr int point_to_point_tag =
    0;                          // pairs agree on the order of their own messages; collectives use the tags above it
constexpr int max_tag = 32767;  // what every MPI grants

bool on_host(const ConstView& view) { return view.contiguous() && (view.device() == DeviceKind::cpu || view.empty()); }

/// The block of [begin, end) elements of a flat array.
char* at(const View& view, std::int64_t element) {
  return static_cast<char*>(view.raw()) + element * size_of(view.dtype());
}
const char* at(const ConstView& view, std::int64_t element) {
  return static_cast<const char*>(view.raw()) + element * size_of(view.dtype());
}

void copy(void* to, const void* from, std::int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

}  // namespace

/// What lives until an operation completes: its messages and its scratch.
struct MpiCommunicator::Operation {
  Buffer scratch;  // before the transfers: they must go first
  MpiTransfers transfers;

  /// The addresses of `size` parts, this rank's at `own`, the others' one after another in scratch.
  std::vector<const void*> parts(int size, int rank, const void* own, std::int64_t part_bytes) const {
    std::vector<const void*> result(static_cast<std::size_t>(size));
    for (int r = 0; r < size; ++r) result[static_cast<std::size_t>(r)] = r == rank ? own : slot(r, rank, part_bytes);
    return result;
  }
  /// Where the part of `other` lies in scratch, which has no place for this rank's own.
  char* slot(int other, int rank, std::int64_t part_bytes) const {
    return static_cast<char*>(scratch.data()) + (other < rank ? other : other - 1) * part_bytes;
  }
};

MpiCommunicator::MpiCommunicator(MpiHandle comm, Arena& arena, std::int64_t max_message_bytes)
    : comm_(std::move(comm)), arena_(arena), max_message_bytes_(max_message_bytes), rank_(comm_.rank()),
      size_(comm_.size()) {}

int MpiCommunicator::next_tag() {
  sequence_ = sequence_ % max_tag + 1;
  return sequence_;
}

std::shared_ptr<MpiCommunicator::Operation> MpiCommunicator::begin(int tag, std::int64_t scratch_bytes) {
  Buffer scratch;
  if (scratch_bytes > 0) scratch = arena_.allocate(scratch_bytes, Label::exchange);
  return std::shared_ptr<Operation>(new Operation{std::move(scratch), {comm_.get(), tag, max_message_bytes_}});
}

Pending MpiCommunicator::initiate_all_gather(ConstView mine, View all) {
  MOESAIC_EXPECT(on_host(mine) && on_host(all) && mine.dtype() == all.dtype());
  MOESAIC_EXPECT(all.size() == size_ * mine.size());
  const std::int64_t bytes = mine.bytes();
  copy(at(all, rank_ * mine.size()), mine.raw(), bytes);
  if (size_ == 1) return {};
  auto operation = begin(next_tag());
  for (int i = 1; i < size_; ++i) operation->transfers.receive(at(all, peer(i) * mine.size()), bytes, peer(i));
  for (int i = 1; i < size_; ++i) operation->transfers.send(mine.raw(), bytes, peer(i));
  return Pending([operation] { operation->transfers.wait(); });
}

Pending MpiCommunicator::initiate_reduce_scatter(ConstView all, View mine) {
  MOESAIC_EXPECT(on_host(mine) && on_host(all) && mine.dtype() == all.dtype());
  MOESAIC_EXPECT(all.size() == size_ * mine.size());
  const std::int64_t bytes = mine.bytes();
  const char* own = at(all, rank_ * mine.size());
  if (size_ == 1) return copy(mine.raw(), own, bytes), Pending();
  auto operation = begin(next_tag(), (size_ - 1) * bytes);
  for (int i = 1; i < size_; ++i) {
    operation->transfers.receive(operation->slot(peer(i), rank_, bytes), bytes, peer(i));
  }
  for (int i = 1; i < size_; ++i) operation->transfers.send(at(all, peer(i) * mine.size()), bytes, peer(i));
  return Pending([operation, own, mine, bytes, rank = rank_, size = size_] {
    operation->transfers.wait();
    sum_in_rank_order(operation->parts(size, rank, own, bytes), mine);
  });
}

Pending MpiCommunicator::initiate_all_reduce(View values) {
  MOESAIC_EXPECT(on_host(values));
  if (size_ == 1) return {};
  return values.bytes() <= small_all_reduce_bytes ? reduce_small(values) : reduce_large(values);
}

/// Gathers every rank's values and sums them.
Pending MpiCommunicator::reduce_small(View values) {
  const std::int64_t bytes = values.bytes();
  auto operation = begin(next_tag(), (size_ - 1) * bytes);
  for (int i = 1; i < size_; ++i) {
    operation->transfers.receive(operation->slot(peer(i), rank_, bytes), bytes, peer(i));
  }
  for (int i = 1; i < size_; ++i) operation->transfers.send(values.raw(), bytes, peer(i));
  return Pending([operation, values, bytes, rank = rank_, size = size_] {
    operation->transfers.wait();
    sum_in_rank_order(operation->parts(size, rank, values.raw(), bytes), values);
  });
}

/// Each rank sums its block of the values, then all ranks exchange their sums.
Pending MpiCommunicator::reduce_large(View values) {
  const View flat = values.reshape({values.size()});
  const auto block = [flat, size = size_](int r) {
    const Block range = block_of(flat.size(), size, r);
    return flat.rows(range.begin, range.end);
  };
  const View mine = block(rank_);
  auto blocks = begin(next_tag(), (size_ - 1) * mine.bytes());
  auto sums = begin(next_tag());
  for (int i = 1; i < size_; ++i) {
    blocks->transfers.receive(blocks->slot(peer(i), rank_, mine.bytes()), mine.bytes(), peer(i));
  }
  for (int i = 1; i < size_; ++i) blocks->transfers.send(block(peer(i)).raw(), block(peer(i)).bytes(), peer(i));
  return Pending([blocks, sums, block, mine, rank = rank_, size = size_] {
    blocks->transfers.wait();
    sum_in_rank_order(blocks->parts(size, rank, mine.raw(), mine.bytes()), mine);
    for (int r = 0; r < size; ++r) {
      if (r != rank) sums->transfers.receive(block(r).raw(), block(r).bytes(), r);
    }
    for (int i = 1; i < size; ++i) sums->transfers.send(mine.raw(), mine.bytes(), (rank + i) % size);
    sums->transfers.wait();
  });
}

Pending MpiCommunicator::initiate_all_to_all(ConstView send, std::span<const std::int64_t> send_rows, View receive,
                                             std::span<const std::int64_t> receive_rows) {
  MOESAIC_EXPECT(on_host(send) && on_host(receive) && send.dtype() == receive.dtype());
  const RowRanges sent(send, send_rows), received(receive, receive_rows);
  MOESAIC_EXPECT(sent.parts() == size_ && received.parts() == size_);
  MOESAIC_EXPECT(sent.bytes(rank_) == received.bytes(rank_));
  copy(static_cast<char*>(receive.raw()) + received.offset(rank_),
       static_cast<const char*>(send.raw()) + sent.offset(rank_), sent.bytes(rank_));
  if (size_ == 1) return {};
  auto operation = begin(next_tag());
  for (int i = 1; i < size_; ++i) {
    operation->transfers.receive(static_cast<char*>(receive.raw()) + received.offset(peer(i)), received.bytes(peer(i)),
                                 peer(i));
  }
  for (int i = 1; i < size_; ++i) {
    operation->transfers.send(static_cast<const char*>(send.raw()) + sent.offset(peer(i)), sent.bytes(peer(i)),
                              peer(i));
  }
  return Pending([operation] { operation->transfers.wait(); });
}

Pending MpiCommunicator::initiate_send(ConstView values, int to) {
  MOESAIC_EXPECT(on_host(values) && 0 <= to && to < size_);
  auto operation = begin(point_to_point_tag);
  operation->transfers.send(values.raw(), values.bytes(), to);
  return Pending([operation] { operation->transfers.wait(); }, [operation] { return operation->transfers.done(); });
}

Pending MpiCommunicator::initiate_receive(View values, int from) {
  MOESAIC_EXPECT(on_host(values) && 0 <= from && from < size_);
  auto operation = begin(point_to_point_tag);
  operation->transfers.receive(values.raw(), values.bytes(), from);
  return Pending([operation] { operation->transfers.wait(); });
}

Pending MpiCommunicator::initiate_broadcast(View values, int root) {
  MOESAIC_EXPECT(on_host(values) && 0 <= root && root < size_);
  if (size_ == 1) return {};
  auto operation = begin(next_tag());
  if (rank_ != root) operation->transfers.receive(values.raw(), values.bytes(), root);
  for (int i = 1; i < size_ && rank_ == root; ++i) operation->transfers.send(values.raw(), values.bytes(), peer(i));
  return Pending([operation] { operation->transfers.wait(); });
}

void MpiCommunicator::barrier() {
  if (size_ > 1) check_mpi(MPI_Barrier(comm_.get()), "MPI_Barrier");
}

}  // namespace moesaic
