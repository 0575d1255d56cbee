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
  bool counts_embedding = true;      ///< whether its publisher counts the input embedding as active
  double auxiliary_coefficient = 0;  ///< of the balancing loss, as the config states it
  RopeSpec rope;
  std::vector<BlockSpec> blocks;  ///< the layers and, where it predicts, the block of multi-token prediction
  /// Trained with multi-token prediction of one depth, whose block is the last of `blocks` and a part of the head's.
  bool predicts = false;
  std::int64_t prediction_depths = 0;  ///< that the config announces, part of this model or not

  std::int64_t layers() const { return static_cast<std::int64_t>(blocks.size()) - (predicts ? 1 : 0); }
  /// Whether the last block reads the table of the first.
  bool shares_table() const { return tied_head || predicts; }
  std::int64_t moe_layers() const;
  /// Learned numbers: of the whole model, and of what one token meets (its top_k experts, the head, and the input embedding
  /// where the publisher counts it, or where it is the head too).
  std::int64_t total_parameters() const;
  std::int64_t active_parameters() const;
};

/// What a deck changes of a config: a slice of the model (0: as the config says), or one depth more.
struct ModelOverrides {
  std::int64_t layers = 0;
  std::int64_t vocabulary = 0;
  std::int64_t experts = 0;
  std::int64_t dense_layers = -1;  ///< leading blocks with a dense feed-forward; -1: as the config says
  bool prediction = false;         ///< with the depth of multi-token prediction that the config announces
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
  bool copy = false;                       ///< the hub stores these elements twice: written, never read
};

/// Whether the tensor is a selection bias, not (a part of) a parameter.
inline bool is_state(const HfPiece& piece) { return piece.parameter.starts_with('/'); }

}  // namespace moesaic
