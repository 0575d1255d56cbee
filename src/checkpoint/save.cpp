// Saving: one rank lays the file out through HDF5, then every rank writes its own blocks at their places.
#include <algorithm>
#include <bit>
#include <chrono>
#include <numeric>

#include "agreement.hpp"
#include "file_index.hpp"
#include "file_layout.hpp"
#include "moesaic/base/hash.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/io/input_file.hpp"
#include "moesaic/io/output_file.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point began) { return std::chrono::duration<double>(Clock::now() - began).count(); }

StateArray text_array(const char* name, const std::string& text, bool owner) {
  const auto size = static_cast<std::int64_t>(text.size());
  auto* bytes = reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));  // only read
  return {.name = name,
          .type = DType::u8,
          .shape = {size},
          .elements = {0, size},
          .values = host_view(bytes, {size}),
          .owner = owner};
}

/// Deck and config are arrays like all others, written by rank 0.
std::vector<StateArray> all_arrays(const CheckpointInfo& info, const std::vector<StateArray>& state, bool first) {
  std::vector<StateArray> all{text_array(deck_array, info.deck, first), text_array(config_array, info.config, first)};
  all.insert(all.end(), state.begin(), state.end());
  return all;
}

/// number_in_order[i]: where array i stands among the names.
std::vector<std::int64_t> order_of_names(const std::vector<StateArray>& arrays) {
  std::vector<std::size_t> sorted(arrays.size());
  std::iota(sorted.begin(), sorted.end(), std::size_t{0});
  std::sort(sorted.begin(), sorted.end(),
            [&](std::size_t a, std::size_t b) { return arrays[a].name < arrays[b].name; });
  std::vector<std::int64_t> number(arrays.size());
  for (std::size_t i = 0; i < sorted.size(); ++i) number[sorted[i]] = static_cast<std::int64_t>(i);
  return number;
}

/// One checkpoint while all ranks write it.
class Saving {
 public:
  Saving(const fs::path& path, MpiCommunicator& ranks, const CheckpointInfo& info, const std::vector<StateArray>& state,
         const std::function<void()>& progress)
      : path_(path), partial_(path), ranks_(ranks), info_(info), arrays_(all_arrays(info, state, ranks.rank() == 0)),
        numbers_(order_of_names(arrays_)), progress_(progress) {
    partial_ += ".partial";
  }

  /// What fails leaves nothing behind that takes space.
  SaveCost run() {
    try {
      return write();
    } catch (...) {
      std::error_code ignored;
      if (first()) fs::remove(partial_, ignored);
      throw;
    }
  }

 private:
  bool first() const { return ranks_.rank() == 0; }

  SaveCost write() {
    plan_blocks();
    save_together(ranks_, [&] {
      if (first()) in_files([&] { lay_out(); });
    });
    share_layout();
    save_together(ranks_, [&] { write_blocks(); });
    gather_hashes();
    save_together(ranks_, [&] {
      if (first()) in_files([&] { complete(); });
    });
    cost_.seconds = seconds_since(began_);
    return cost_;
  }

  /// Counts the time of `work`, which is that of the file system.
  template <class Work> void in_files(const Work& work) {
    const auto began = Clock::now();
    work();
    cost_.file_seconds += seconds_since(began);
  }

  /// This rank's blocks, in the order in which it writes them, and on rank 0 those of all.
  void plan_blocks() {
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      const StateArray& array = arrays_[i];
      cost_.bytes += array.shape.size() * size_of(array.type);
      if (!array.owner) continue;
      for (const HashedBlock& block : cut_into_blocks(numbers_[i], array.elements, size_of(array.type)))
        mine_.push_back({i, block});
    }
    std::vector<HashedBlock> blocks;
    for (const Mine& one : mine_) blocks.push_back(one.block);
    table_ = gather(rows_of(blocks));
  }

  /// The integers of all ranks, one after the other, on rank 0; nothing elsewhere.
  std::vector<std::int64_t> gather(const std::vector<std::int64_t>& mine) {
    const auto count = std::ssize(mine);
    std::vector<std::int64_t> counts(static_cast<std::size_t>(ranks_.size())), none(counts.size(), 0);
    meet_quietly(ranks_);
    ranks_.all_gather(host_view(&count, {1}), host_view(counts.data(), {ranks_.size()}));
    if (!first()) std::fill(counts.begin(), counts.end(), 0);
    none[0] = count;
    std::vector<std::int64_t> all(
        static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0})));
    ranks_.all_to_all(host_view(mine.data(), {count}), none, host_view(all.data(), {std::ssize(all)}), counts);
    return all;
  }

  void lay_out() {
    std::vector<HashedBlock> blocks = blocks_of(table_);
    sort_blocks(blocks);
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      const Block flaw = flaw_of(blocks, numbers_[i], arrays_[i].shape.size());
      if (!flaw.empty())
        throw RunError(
            fmt::format("{}: elements {} to {} of {} are written by no rank or by two (a defect in moesaic, "
                        "please report it)",
                        path_.string(), flaw.begin, flaw.end - 1, arrays_[i].name));
    }
    layout_ = lay_out_file(partial_, info_, arrays_, std::ssize(blocks));
  }

  void share_layout() {
    layout_.arrays.resize(arrays_.size());
    ranks_.broadcast(host_view(layout_.arrays.data(), {std::ssize(layout_.arrays)}), 0);
  }

  void write_blocks() {
    OutputFile file(partial_);
    for (Mine& one : mine_) {
      const StateArray& array = arrays_[one.array];
      const std::int64_t width = size_of(array.type), bytes = one.block.elements.size() * width;
      const auto* from =
          static_cast<const std::byte*>(array.values.raw()) + (one.block.elements.begin - array.elements.begin) * width;
      const std::int64_t at = layout_.arrays[one.array] + one.block.elements.begin * width;
      one.block.hash = hash64({from, static_cast<std::size_t>(bytes)});
      in_files([&] {
        file.write_at(at, from, bytes);
        file.start_writeback(at, bytes);
      });
      progress_();
    }
    const double before = cost_.file_seconds;
    in_files([&] { file.sync(); });
    cost_.sync_seconds = cost_.file_seconds - before;
  }

  void gather_hashes() {
    std::vector<HashedBlock> blocks;
    for (const Mine& one : mine_) blocks.push_back(one.block);
    table_ = gather(rows_of(blocks));
    cost_.file_seconds = largest(cost_.file_seconds);
    cost_.sync_seconds = largest(cost_.sync_seconds);
  }

  double largest(double mine) {
    std::vector<double> all(static_cast<std::size_t>(ranks_.size()));
    ranks_.all_gather(host_view(&mine, {1}), host_view(all.data(), {ranks_.size()}));
    return *std::max_element(all.begin(), all.end());
  }

  /// The table of hashes, and the new name; everything is on disk before and after.
  void complete() {
    std::vector<HashedBlock> blocks = blocks_of(table_);
    sort_blocks(blocks);
    write_hashes(rows_of(blocks));
    const FileIndex index = read_index(partial_);
    if (!index.flaw.empty())
      throw RunError(fmt::format("{} reads back differently: {}; check the disk", partial_.string(), index.flaw));
    fs::rename(partial_, path_);
    sync_path(path_.parent_path());
  }

  void write_hashes(const std::vector<std::int64_t>& rows) {
    std::vector<PlacedArray> placed(arrays_.size());
    for (std::size_t i = 0; i < arrays_.size(); ++i)
      placed[static_cast<std::size_t>(numbers_[i])] = {arrays_[i].name, stored(arrays_[i].type),
                                                       shape_of(arrays_[i].shape), 0};
    const std::array<std::uint64_t, 2> hashes{hash64(std::as_bytes(std::span(rows))),
                                              hash64(summary(CheckpointInfo::format, info_, placed))};
    OutputFile file(partial_);
    file.write_at(layout_.blocks, rows.data(), std::ssize(rows) * 8);
    file.write_at(layout_.summary, hashes.data(), sizeof hashes);
    file.sync();
  }

  /// A block that this rank writes, of arrays_[array].
  struct Mine {
    std::size_t array;
    HashedBlock block;
  };

  Clock::time_point began_ = Clock::now();
  fs::path path_, partial_;
  MpiCommunicator& ranks_;
  const CheckpointInfo& info_;
  std::vector<StateArray> arrays_;
  std::vector<std::int64_t> numbers_;
  const std::function<void()>& progress_;
  std::vector<Mine> mine_;
  std::vector<std::int64_t> table_;  ///< rows of all ranks, on rank 0
  FileLayout layout_;
  SaveCost cost_;
};

}  // namespace

SaveCost save_checkpoint(const fs::path& path, MpiCommunicator& ranks, const CheckpointInfo& info,
                         const std::vector<StateArray>& state, const std::function<void()>& progress) {
  return Saving(path, ranks, info, state, progress).run();
}

SaveCost save_checkpoint(const fs::path& path, MPI_Comm ranks, const CheckpointInfo& info,
                         const std::vector<StateArray>& state) {
  Arena scratch(host_memory());
  MpiCommunicator communicator(MpiHandle::duplicate(ranks), scratch);
  return save_checkpoint(path, communicator, info, state, [] {});
}

}  // namespace moesaic
