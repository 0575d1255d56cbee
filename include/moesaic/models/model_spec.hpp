#pragma once
/// A model as data. Families make one from a Hugging Face config.json; everything else reads only this.

#include <cstdint>
#include <string>
#include <vector>

#include "moesaic/layers/attention.hpp"
#include "moesaic/layers/moe.hpp"
#include "moesaic/tensor/view.hpp"

namespace moesaic {

struct RopeSpec {
  double theta = 10000;
};

/// One transformer block: a dense feed-forward of dense_width, or a mixture of experts when dense_width is 0.
struct BlockSpec {
  AttentionSpec attention;
  std::int64_t dense_width = 0;
  MoeSpec moe;
  bool sparse() const { return dense_width == 0; }
};

struct ModelSpec {
  std::string family;  ///< model_type of the config
  std::int64_t hidden = 0;
  std::int64_t vocabulary = 0;
  std::int64_t max_positions = 0;
  double norm_eps = 1e-6;
  double initializer_range = 0.02;
  bool tied_head = false;
  double auxiliary_coefficient = 0;  ///< of the balancing loss, as the config states it
  RopeSpec rope;
  std::vector<BlockSpec> blocks;

  std::int64_t moe_layers() const;
  /// Learned numbers: of the whole model, and of what one token meets (its top_k experts, embedding and head counted).
  std::int64_t total_parameters() const;
  std::int64_t active_parameters() const;
};

/// Changes to a config that make a slice of a model; 0: as the config says.
struct ModelOverrides {
  std::int64_t layers = 0;
  std::int64_t vocabulary = 0;
  std::int64_t experts = 0;
  std::int64_t dense_layers = -1;  ///< leading blocks with a dense feed-forward; -1: as the config says
};

/// Where a Hugging Face tensor lies: `shape` elements, consecutive, from flat element `offset` of parameter `parameter`.
struct HfPiece {
  std::string tensor;
  std::string parameter;
  std::int64_t offset = 0;
  Extents shape;
};

}  // namespace moesaic
