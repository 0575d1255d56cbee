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
  append_documents(sample, length, batch);
}

}  // namespace

std::int64_t BatchCut::micro_batches() const {
  MOESAIC_EXPECT(global_batch > 0 && micro_batch > 0 && data_ranks > 0);
  const std::int64_t largest = block_of(global_batch, data_ranks, 0).size();
  return (largest + micro_batch - 1) / micro_batch;
}

BatchCut::Range BatchCut::sequences(int data_rank, std::int64_t m) const {
  MOESAIC_EXPECT(0 <= m && m < micro_batches());
  const Block mine = block_of(global_batch, data_ranks, data_rank);
  return {std::min(mine.begin + m * micro_batch, mine.end), std::min(mine.begin + (m + 1) * micro_batch, mine.end)};
}

HostBatch read_batch(const Dataset& data, const Sampler& sampler, std::int64_t first, BatchCut::Range range,
                     std::int64_t length) {
  HostBatch batch;
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

}  // namespace moesaic
