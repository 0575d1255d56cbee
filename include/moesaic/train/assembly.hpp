#pragma once
/// Everything a run is made of, built in order: settings -> model as data -> grid -> communicators -> layers -> slices.

#include "moesaic/checkpoint/state.hpp"
#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/data/batch.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/parallel/context_parallel.hpp"
#include "moesaic/parallel/expert_parallel.hpp"
#include "moesaic/train/compute.hpp"
#include "moesaic/train/decomposition.hpp"
#include "moesaic/train/starting_point.hpp"

namespace moesaic {

/// What a run reads, checked without any communicator: wrong input throws InputError here.
struct Inputs : Decomposition {
  Inputs(const RunSettings& settings, int ranks);

  Datasets data;
  StartingPoint start;  ///< found after all else
};

/// InputError when the checkpoint that the run would begin with, if any, is missing, damaged or of another model.
/// `training`: the optimizer's moments must be there too. Local.
void check_starting_weights(const RunSettings& settings, const Inputs& inputs, bool training);

/// The model over this job's ranks, its weights not yet set. Not movable: parts refer to each other.
class Assembly {
 public:
  /// Collective.
  Assembly(const RunSettings& settings, const Inputs& inputs, const MpiSession& session);
  Assembly(const Assembly&) = delete;

  Compute compute;
  Arena& arena;  ///< of the device
  Communicators communicators;
  LayerContext context;
  std::unique_ptr<SequenceExchange> sequences;
  std::unique_ptr<ExpertExchange> experts;
  SharedStatistics statistics;
  Model model;
  FullySharded sharding;
  PipelineLink link;
  StageRunner runner;

  /// Sets the weights as model.init says: at random, from a Hugging Face folder or from a checkpoint. Collective.
  void initialise(const RunSettings& settings, const Inputs& inputs);
  /// What a checkpoint holds of the weights, as load_checkpoint and save_checkpoint take it.
  std::vector<StateArray> parameters() const { return parameter_state(sharding.units(), model, owns_biases()); }
  /// Whether this rank writes the selection biases of its stage.
  bool owns_biases() const { return communicators.tokens->rank() == 0; }
  /// Names of all parameters of the whole model.
  std::vector<std::string> parameter_names() const;
};

}  // namespace moesaic
