#pragma once
/// Device memory: one arena a rank; every allocation carries a label, so that peaks can be planned and asserted.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// What memory is used for. The terms of `moesaic plan` and of the closing table.
enum class Label : std::uint8_t {
  parameters,           ///< this rank's slices of the master weights
  gradients,            ///< this rank's slices of the reduced gradients
  moments,              ///< this rank's slices of AdamW's moments
  gathered,             ///< weights of gathered units
  unreduced_gradients,  ///< whole gradients of units that wait for their reduction
  activations,          ///< what forward keeps for backward
  exchange,             ///< send and receive buffers
  workspace,            ///< scratch that lives within one operator
  batch,                ///< tokens and labels
};
inline constexpr int num_labels = 9;
std::string_view name_of(Label label);

/// Where an arena gets its memory from.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  virtual DeviceKind device() const = 0;
  /// Returns `bytes` of memory aligned to 256 bytes; throws RunError naming the figures when there is none.
  virtual void* acquire(std::int64_t bytes) = 0;
  /// Called before more than ever of a block is used: its first `bytes`. A source may give addresses first and their
  /// memory here; throws as acquire().
  virtual void commit(void* /*block*/, std::int64_t /*bytes*/) {}
  virtual void release(void* block, std::int64_t bytes) noexcept = 0;
};

/// Anonymous host memory.
std::unique_ptr<MemorySource> host_memory();

class Arena;

/// Movable owner of a piece of an arena; returns it on destruction.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer(std::move(other)).swap(*this);
    return *this;
  }
  ~Buffer();
  void* data() const { return data_; }
  std::int64_t bytes() const { return bytes_; }
  void swap(Buffer& other) noexcept {
    std::swap(arena_, other.arena_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(label_, other.label_);
  }

 private:
  friend class Arena;
  Arena* arena_ = nullptr;
  void* data_ = nullptr;
  std::int64_t bytes_ = 0;
  Label label_ = Label::workspace;
};

/// A buffer with a shape. Converts to View; destroyed tensors return their memory to the arena.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Buffer buffer, View view) : buffer_(std::move(buffer)), view_(view) {}
  const View& view() const { return view_; }
  operator View() const { return view_; }
  operator ConstView() const { return view_; }
  bool absent() const { return view_.absent(); }
  /// Gives the memory back now.
  void reset() { *this = Tensor(); }

 private:
  Buffer buffer_;
  View view_;
};

/// Best-fit allocator over large blocks. Deterministic: the same calls give the same offsets. Not thread-safe:
/// a rank has one thread of control. Freed memory may be reused at once, so on a GPU every stream that uses
/// a buffer must be ordered before the stream that gets it next (the caller's duty).
class Arena {
 public:
  /// `capacity` bytes are acquired at once when positive. `can_grow`: acquire further blocks when full (host memory).
  explicit Arena(std::unique_ptr<MemorySource> source, std::int64_t capacity = 0, bool can_grow = true);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  DeviceKind device() const { return source_->device(); }

  /// Uninitialised memory, aligned to 256 bytes. Throws RunError with the largest labels when it does not fit.
  /// No bytes are legal: the pointer is then not null and points to nothing.
  Buffer allocate(std::int64_t bytes, Label label);
  Tensor tensor(DType type, Extents extents, Label label);

  /// Bytes in use, counted in whole pieces of 256.
  std::int64_t used(Label label) const { return used_[static_cast<std::size_t>(label)]; }
  std::int64_t peak(Label label) const { return peak_[static_cast<std::size_t>(label)]; }
  std::int64_t used() const { return total_used_; }
  std::int64_t peak() const { return total_peak_; }
  /// What each label used when all together used most: these add up to peak().
  std::int64_t at_peak(Label label) const { return at_peak_[static_cast<std::size_t>(label)]; }
  /// How far into its first block the arena has ever been used, gaps included: with this capacity, or any larger one, the
  /// same calls get the same offsets.
  std::int64_t reach() const { return blocks_.empty() ? 0 : blocks_.front().reach; }
  /// Starts the peaks anew from what is used now.
  void reset_peaks();

 private:
  friend class Buffer;
  struct Block {
    void* data;
    std::int64_t bytes, reach;  ///< how far it has ever been used
  };
  using FreePiece = std::map<char*, std::int64_t>::iterator;

  void free(void* data, std::int64_t bytes, Label label) noexcept;
  void add_block(std::int64_t bytes);
  FreePiece best_fit(std::int64_t bytes);
  char* take(std::int64_t bytes, Label label);
  void extend(const char* end);
  void count(std::int64_t bytes, Label label);
  [[noreturn]] void throw_full(std::int64_t bytes, Label label) const;

  std::unique_ptr<MemorySource> source_;
  bool can_grow_;
  std::vector<Block> blocks_;
  std::map<char*, std::int64_t> free_;  ///< start -> bytes, neighbours merged within a block
  std::array<std::int64_t, num_labels> used_{}, peak_{}, at_peak_{};
  std::int64_t total_used_ = 0, total_peak_ = 0;
};

}  // namespace moesaic
