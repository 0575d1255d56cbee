#pragma once
/// Parameters as layers declare them: names, shapes, how they start. Where they live is not the layers' business.

#include <string>
#include <vector>

#include "moesaic/tensor/view.hpp"

namespace moesaic {

enum class Initialisation : std::uint8_t { normal, ones, zeros };

/// One global parameter tensor.
struct ParameterSpec {
  std::string name;  ///< e.g. "blocks/0/attention/output"; also its path in a checkpoint
  Extents shape;     ///< global shape; of expert parameters the first extent counts experts
  Initialisation initialisation = Initialisation::normal;
  bool matrix = true;  ///< decays under optimizer.decay = matrices
  /// Its gradient begins with a product, which replaces what is there when LayerContext::gradients_begin (of experts, else
  /// dense_gradients_begin): it need not be zeroed.
  bool product = false;
};

/// Parameters that are gathered, reduced and stored together. A block has one or more units.
struct UnitSpec {
  std::string name;
  bool expert = false;  ///< cut along the expert axis first, then sharded over expert_shard
  std::vector<ParameterSpec> parameters;
  /// Name of the unit whose values this one shares (a tied head); it keeps gradients of its own, added once at the end.
  std::string tied_to;
};

/// Views of a unit's parameters (or of their gradients) in declared order. Expert parameters: this rank's experts.
using ParameterViews = std::vector<View>;

}  // namespace moesaic
