#pragma once
/// Which of the model's blocks each virtual stage of the pipeline owns. Pure arithmetic.
///
/// Blocks are counted from the embedding (0) over the transformer blocks (1 to L) to the head (L + 1). Virtual stage
/// chunk * pipeline + stage owns a run of them, never an empty one.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "moesaic/grid/block.hpp"

namespace moesaic {

/// Cuts the blocks into `stages` contiguous runs so that the largest cost of a run is the smallest possible; among
/// those cuts the one with the smallest sum of squared costs (the evenest); among those the one whose last runs are
/// longest.
/// costs [blocks], none negative. Example: costs 1 4 4 4 4 1 over three stages: [0,2) [2,4) [4,6), at most 8.
/// Throws InputError when there are more stages than blocks. Work: stages x blocks^2.
std::vector<Block> balance_stages(std::span<const double> costs, int stages);

/// Reads a layout such as "5,4,4,3": how many blocks each virtual stage owns, embedding and head counted.
/// Throws InputError for what is no number, a stage without a block, a wrong number of stages or of blocks.
std::vector<Block> parse_stage_layout(std::string_view layout, std::int64_t blocks, int stages);

}  // namespace moesaic
