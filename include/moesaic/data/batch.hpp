#pragma once
/// This data rank's micro-batches of one global batch.

#include <cstdint>
#include <vector>

#include "moesaic/data/dataset.hpp"
#include "moesaic/data/sampler.hpp"
#include "moesaic/grid/block.hpp"

namespace moesaic {

/// How a global batch is cut: each data rank takes a contiguous block of its sequences (uneven, perhaps none); all make
/// the same number of micro-batches, the last ones of a rank may be short or empty.
/// Example: 10 sequences over 4 ranks in micro-batches of 2: [0,2) [2,3) | [3,5) [5,6) | [6,8) - | [8,10) -.
struct BatchCut {
  std::int64_t global_batch = 0;
  std::int64_t micro_batch = 1;
  int data_ranks = 1;

  /// Micro-batches of every data rank: what the largest block needs.
  std::int64_t micro_batches() const;
  /// Sequences of the largest micro-batch of any data rank.
  std::int64_t largest_micro_batch() const;
  /// Sequences [begin, end) of the global batch.
  using Range = Block;
  /// Those in micro-batch m of a data rank: pure arithmetic.
  Range sequences(int data_rank, std::int64_t m) const;
};

/// Host tokens of one micro-batch, flat [sequences * length].
struct HostBatch {
  std::int64_t sequences = 0;
  std::int64_t length = 0;                           ///< of this rank's part of a sequence
  std::vector<std::int32_t> ids, labels, positions;  ///< labels: -1 where not counted; positions in the sequence
  std::vector<std::int32_t> documents;               ///< empty: one document a sequence
  std::int64_t counted = 0;                          ///< labels that count

  bool predicts = false;  ///< whether what follows is there
  std::vector<std::int32_t> next_ids,
      next_labels;                ///< of each token the one behind it, and the label one token further on
  std::int64_t next_counted = 0;  ///< next_labels that count

  std::int64_t parts = 1;                   ///< into which each sequence is cut
  std::vector<std::int32_t> key_documents;  ///< flat [sequences * parts * length]: of whole sequences; empty when uncut

  bool divisible = false;  ///< there could be smaller micro-batches of the same data, on all ranks alike
};

/// Whether batches are read for multi-token prediction, too.
enum class Lookahead : bool { one_token, two_tokens };

/// Reads samples [first + begin, first + end) into one micro-batch; length = sequence of the data.
///
/// The label of position t is token t + 1. It counts when the loss mask marks that token (or there is no mask) and the
/// token lies in the same document as its input: the first token of a document is never predicted from the one before.
/// The next label of position t is token t + 2, which the sample's last position does not have; it counts when the mask
/// marks it and all three tokens lie in one document.
HostBatch read_batch(const Dataset& data, const Sampler& sampler, std::int64_t first, BatchCut::Range range,
                     std::int64_t length, Lookahead lookahead = Lookahead::one_token);

/// Part `part` of `parts` of a batch of whole sequences: of each sequence the two tokens' blocks of mirrored_blocks_of, one
/// behind the other. Positions stay those in the sequence; the label of a block's last token is the next block's first.
HostBatch part_of(const HostBatch& whole, int parts, int part);

}  // namespace moesaic
