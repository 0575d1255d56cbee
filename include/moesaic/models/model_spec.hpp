#pragma once
/// A model as data. Families make one from a Hugging Face config.json; everything else reads only this.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moesaic/layers/attention.hpp"
#include "moesaic/layers/latent_attention.hpp"
#include "moesaic/layers/moe.hpp"
#include "moesaic/layers/rope.hpp"
#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// One transformer block: a dense feed-forward of dense_width, or a mixture of experts when dense_width is 0.
struct BlockSpec {
  AttentionSpec attention;
  std::optional<LatentAttentionSpec> latent;  ///< in place of `attention`
  std::int64_t dense_width = 0;
  MoeSpec moe;
  bool sparse() const { return dense_width == 0; }
  /// Of the part of a head that is rotated.
  std::int64_t rotary_width() const {
    if (latent) return latent->rotary_width;
    return attention.rotary_width > 0 ? attention.rotary_width : attention.width;
  }
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
  std::int64_t prediction_depths = 0;  ///< of multi-token prediction that the config announces; no part of this model

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

/// The checkpoint's name of the selection bias of MoE layer `layer`. It is state of the router, no parameter: its slash comes
/// first.
std::string selection_bias_name(std::int64_t layer);

/// Where a Hugging Face tensor lies: element (i, j, ...) of it, seen as an array of `shape` (its own, or its dimensions split),
/// at flat element offset + i strides[0] + j strides[1] + ... of parameter `parameter`, or of a selection bias.
struct HfPiece {
  std::string tensor;
  std::string parameter;
  std::int64_t offset = 0;
  Extents shape;
  std::vector<std::int64_t> strides = {};  ///< empty: consecutive
  Extents whole = {};                      ///< the tensor's own shape where `shape` splits it
};

/// Whether the tensor is a selection bias, not (a part of) a parameter.
inline bool is_state(const HfPiece& piece) { return piece.parameter.starts_with('/'); }

}  // namespace moesaic
