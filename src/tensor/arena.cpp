#include "moesaic/tensor/arena.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "moesaic/base/text.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t alignment = 256;
constexpr std::int64_t smallest_block = std::int64_t{64} << 20;

constexpr std::int64_t round_up(std::int64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

/// What buffers of no bytes point to, so that a tensor of no elements differs from an absent one.
alignas(alignment) char nothing[alignment];

class HostMemory final : public MemorySource {
 public:
  DeviceKind device() const override { return DeviceKind::cpu; }

  void* acquire(std::int64_t bytes) override {
    void* block = mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
      throw RunError(
          fmt::format("the system refuses {} of host memory: {} (tensors live there); use fewer ranks on "
                      "this node or a smaller train.micro_batch",
                      format_bytes(bytes), std::strerror(errno)));
    madvise(block, static_cast<std::size_t>(bytes), MADV_HUGEPAGE);  // a hint: refusal does no harm
    return block;
  }

  void release(void* block, std::int64_t bytes) noexcept override { munmap(block, static_cast<std::size_t>(bytes)); }
};

/// "activations 1.50 GiB, parameters 512 MiB, gathered 2.00 MiB": the three largest that are not empty.
std::string largest_labels(const std::array<std::int64_t, num_labels>& used) {
  std::array<int, num_labels> order;
  for (int i = 0; i < num_labels; ++i) order[static_cast<std::size_t>(i)] = i;
  const auto bytes = [&used](int label) { return used[static_cast<std::size_t>(label)]; };
  std::ranges::stable_sort(order, std::ranges::greater{}, bytes);
  std::string text;
  for (int label : std::span(order).first(3))
    if (bytes(label) > 0)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name_of(static_cast<Label>(label)),
                          format_bytes(bytes(label)));
  return text.empty() ? "none" : text;
}

}  // namespace

std::string_view name_of(Label label) {
  switch (label) {
    case Label::parameters: return "parameters";
    case Label::gradients: return "gradients";
    case Label::moments: return "moments";
    case Label::gathered: return "gathered";
    case Label::unreduced_gradients: return "unreduced_gradients";
    case Label::activations: return "activations";
    case Label::exchange: return "exchange";
    case Label::workspace: return "workspace";
    case Label::batch: return "batch";
  }
  return "?";
}

std::unique_ptr<MemorySource> host_memory() { return std::make_unique<HostMemory>(); }

Buffer::~Buffer() {
  if (arena_ != nullptr) arena_->free(data_, bytes_, label_);
}

Arena::Arena(std::unique_ptr<MemorySource> source, std::int64_t capacity, bool can_grow)
    : source_(std::move(source)), can_grow_(can_grow) {
  MOESAIC_EXPECT(capacity >= 0);
  if (capacity >= alignment) add_block(capacity / alignment * alignment);
}

Arena::~Arena() {
  for (const Block& block : blocks_) source_->release(block.data, block.bytes);
}

void Arena::add_block(std::int64_t bytes) {
  char* data = static_cast<char*>(source_->acquire(bytes));
  blocks_.push_back({data, bytes, 0});
  free_.emplace(data, bytes);
}

Arena::FreePiece Arena::best_fit(std::int64_t bytes) {
  FreePiece best = free_.end();
  for (const Block& block : blocks_) {  // in order of acquisition: addresses of blocks differ from run to run
    char* begin = static_cast<char*>(block.data);
    for (auto piece = free_.lower_bound(begin); piece != free_.end() && piece->first < begin + block.bytes; ++piece)
      if (piece->second >= bytes && (best == free_.end() || piece->second < best->second)) best = piece;
  }
  return best;
}

Buffer Arena::allocate(std::int64_t bytes, Label label) {
  MOESAIC_EXPECT(bytes >= 0);
  Buffer buffer;
  buffer.arena_ = this;
  buffer.data_ = bytes == 0 ? nothing : take(round_up(bytes), label);
  buffer.bytes_ = bytes;
  buffer.label_ = label;
  return buffer;
}

char* Arena::take(std::int64_t bytes, Label label) {
  FreePiece piece = best_fit(bytes);
  if (piece == free_.end()) {
    if (!can_grow_) throw_full(bytes, label);
    std::int64_t held = 0;
    for (const Block& block : blocks_) held += block.bytes;
    add_block(std::max({bytes, smallest_block, round_up(held / 2)}));
    piece = best_fit(bytes);
  }
  const auto [data, size] = *piece;
  extend(data + bytes);
  free_.erase(piece);
  if (size > bytes) free_.emplace(data + bytes, size - bytes);
  count(bytes, label);
  return data;
}

/// Memory before `end` is going to be used.
void Arena::extend(const char* end) {
  for (Block& block : blocks_) {
    const std::int64_t used = end - static_cast<char*>(block.data);
    if (used <= block.reach || used > block.bytes) continue;
    source_->commit(block.data, used);
    block.reach = used;
  }
}

void Arena::count(std::int64_t bytes, Label label) {
  const auto i = static_cast<std::size_t>(label);
  used_[i] += bytes;
  total_used_ += bytes;
  peak_[i] = std::max(peak_[i], used_[i]);
  if (total_used_ <= total_peak_) return;
  total_peak_ = total_used_;
  at_peak_ = used_;
}

void Arena::throw_full(std::int64_t bytes, Label label) const {
  std::int64_t held = 0, largest = 0;
  for (const Block& block : blocks_) held += block.bytes;
  for (const auto& [data, size] : free_) largest = std::max(largest, size);
  throw RunError(
      fmt::format("no room for {} of {}: the arena holds {}, {} are used, the largest free piece is {} "
                  "(largest uses: {}); use a "
                  "smaller train.micro_batch, recompute more, or more ranks",
                  format_bytes(bytes), name_of(label), format_bytes(held), format_bytes(total_used_),
                  format_bytes(largest), largest_labels(used_)));
}

void Arena::free(void* data, std::int64_t bytes, Label label) noexcept {
  if (bytes == 0) return;
  const std::int64_t size = round_up(bytes);
  count(-size, label);
  const auto starts_block = [this](const char* at) {
    return std::ranges::any_of(blocks_, [at](const Block& block) { return block.data == at; });
  };
  FreePiece piece = free_.emplace(static_cast<char*>(data), size).first;
  const auto next = std::next(piece);
  if (next != free_.end() && piece->first + size == next->first && !starts_block(next->first)) {
    piece->second += next->second;
    free_.erase(next);
  }
  if (piece == free_.begin() || starts_block(piece->first)) return;
  const auto previous = std::prev(piece);
  if (previous->first + previous->second != piece->first) return;
  previous->second += piece->second;
  free_.erase(piece);
}

Tensor Arena::tensor(DType type, Extents extents, Label label) {
  Buffer buffer = allocate(extents.size() * size_of(type), label);
  const View view(buffer.data(), type, device(), extents);
  return Tensor(std::move(buffer), view);
}

void Arena::reset_peaks() {
  peak_ = at_peak_ = used_;
  total_peak_ = total_used_;
}

}  // namespace moesaic
