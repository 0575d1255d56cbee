#include "moesaic/data/batch.hpp"

#include <algorithm>
#include <numeric>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

bool counts_as_label(const Sample& sample, std::size_t token) {
  if (!sample.counted.empty() && sample.counted[token] == 0) return false;
  return sample.documents.empty() || sample.documents[token] == sample.documents[token - 1];
}

void append_labels(const Sample& sample, HostBatch& batch) {
  for (std::size_t token = 1; token < sample.tokens.size(); ++token) {
    const bool counts = counts_as_label(sample, token);
    batch.labels.push_back(counts ? sample.tokens[token] : -1);
    batch.counted += counts ? 1 : 0;
  }
}

/// Behind append_labels: a next label is the label of the position behind, unless a document begins there.
void append_next(const Sample& sample, std::int64_t length, HostBatch& batch) {
  batch.next_ids.insert(batch.next_ids.end(), sample.tokens.begin() + 1, sample.tokens.end());
  const auto labels = batch.labels.end() - length;
  for (std::int64_t t = 0; t < length; ++t) {
    const auto token = static_cast<std::size_t>(t);
    const bool ends =
        t + 1 == length || (!sample.documents.empty() && sample.documents[token] != sample.documents[token + 1]);
    batch.next_labels.push_back(ends ? -1 : labels[t + 1]);
    batch.next_counted += batch.next_labels.back() < 0 ? 0 : 1;
  }
}

/// Once a sample has documents, those without become one document, number 0.
void append_documents(const Sample& sample, std::int64_t length, HostBatch& batch) {
  if (sample.documents.empty() && batch.documents.empty()) return;
  batch.documents.resize(batch.ids.size());
  if (sample.documents.empty()) return;
  std::copy_n(sample.documents.begin(), length, batch.documents.end() - length);
}

void append_sample(const Sample& sample, std::int64_t length, HostBatch& batch) {
  batch.ids.insert(batch.ids.end(), sample.tokens.begin(), sample.tokens.begin() + length);
  batch.positions.resize(batch.ids.size());
  std::iota(batch.positions.end() - length, batch.positions.end(), 0);
  append_labels(sample, batch);
  if (batch.predicts) append_next(sample, length, batch);
  append_documents(sample, length, batch);
}

/// The two blocks of each sequence of `whole`, which may be empty.
std::vector<std::int32_t> blocks_of_each(const std::vector<std::int32_t>& whole, std::int64_t length,
                                         BlockPair blocks) {
  std::vector<std::int32_t> mine;
  for (auto sequence = whole.begin(); sequence != whole.end(); sequence += length)
    for (const Block& block : {blocks.early, blocks.late})
      mine.insert(mine.end(), sequence + block.begin, sequence + block.end);
  return mine;
}

}  // namespace

std::int64_t BatchCut::micro_batches() const {
  MOESAIC_EXPECT(global_batch > 0 && micro_batch > 0 && data_ranks > 0);
  const std::int64_t largest = block_of(global_batch, data_ranks, 0).size();
  return (largest + micro_batch - 1) / micro_batch;
}

std::int64_t BatchCut::largest_micro_batch() const {
  return std::min(micro_batch, block_of(global_batch, data_ranks, 0).size());
}

BatchCut::Range BatchCut::sequences(int data_rank, std::int64_t m) const {
  MOESAIC_EXPECT(0 <= m && m < micro_batches());
  const Block mine = block_of(global_batch, data_ranks, data_rank);
  return {std::min(mine.begin + m * micro_batch, mine.end), std::min(mine.begin + (m + 1) * micro_batch, mine.end)};
}

HostBatch read_batch(const Dataset& data, const Sampler& sampler, std::int64_t first, BatchCut::Range range,
                     std::int64_t length, Lookahead lookahead) {
  HostBatch batch;
  batch.predicts = lookahead == Lookahead::two_tokens;
  batch.sequences = range.size();
  batch.length = length;
  Sample sample;
  for (std::int64_t i = range.begin; i < range.end; ++i) {
    data.read(sampler.row(first + i), sample);
    MOESAIC_ASSERT(std::ssize(sample.tokens) == length + 1);
    append_sample(sample, length, batch);
  }
  return batch;
}

HostBatch part_of(const HostBatch& whole, int parts, int part) {
  MOESAIC_EXPECT(whole.parts == 1);
  if (parts == 1) return whole;
  const BlockPair blocks = mirrored_blocks_of(whole.length, parts, part);
  const auto mine = [&](const std::vector<std::int32_t>& all) { return blocks_of_each(all, whole.length, blocks); };
  HostBatch batch;
  batch.sequences = whole.sequences;
  batch.length = whole.length / parts;
  batch.ids = mine(whole.ids);
  batch.labels = mine(whole.labels);
  batch.positions = mine(whole.positions);
  batch.documents = mine(whole.documents);
  batch.counted = std::ssize(batch.labels) - std::ranges::count(batch.labels, -1);
  batch.predicts = whole.predicts;
  batch.next_ids = mine(whole.next_ids);
  batch.next_labels = mine(whole.next_labels);
  batch.next_counted = std::ssize(batch.next_labels) - std::ranges::count(batch.next_labels, -1);
  batch.parts = parts;
  batch.key_documents = whole.documents;
  batch.divisible = whole.divisible;
  return batch;
}

}  // namespace moesaic
