#pragma once
/// The model as data and how it is cut over ranks, from the deck alone: no communicator, no weights, no tokens.

#include <vector>

#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/model.hpp"
#include "moesaic/parallel/expert_parallel.hpp"
#include "moesaic/parallel/pipeline_link.hpp"
#include "moesaic/train/settings.hpp"
#include "moesaic/train/stage_runner.hpp"

namespace moesaic {

/// Whether model.init names a Hugging Face folder.
bool is_hf_folder(const RunSettings& settings);

/// What every rank can say of itself and of all others. Refuses grids that cannot be, with the nearest legal ones.
struct Decomposition {
  /// Reads the model's config. InputError for what the deck has wrong.
  Decomposition(const RunSettings& settings, int ranks);

  HfConfig config;
  ModelSpec spec;
  ProcessGrid grid;
  int chunks = 1;             ///< runs of blocks a rank
  std::vector<Block> stages;  ///< the blocks of each virtual stage of the pipeline

  PipelinePlace place_of(int rank) const;
  /// The blocks of a rank, chunk by chunk.
  std::vector<BlockRange> ranges_of(int rank) const;
  /// The same as layers; `model`: made of ranges_of(rank).
  StageBlocks blocks_of(const Model& model, int rank) const;
};

/// One line of log where the config announces multi-token prediction and the deck does not ask for it.
void say_what_is_left_out(const ModelSpec& spec);

/// The communicator over the ranks whose tokens a balance loss is taken of: those of one sequence, or of one micro-batch.
Communicator& ranks_that_share(BalanceScope scope, const Communicators& communicators);

/// How much may arrive at the experts of a rank. On the CPU buffers grow.
ReceiveBound receive_bound(const RunSettings& settings, const ProcessGrid& grid, DeviceKind device);

}  // namespace moesaic
