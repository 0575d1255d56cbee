#pragma once
/// Everything a run is made of, built in order: settings -> model as data -> grid -> communicators -> layers -> slices.

#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/data/batch.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/parallel/expert_parallel.hpp"
#include "moesaic/train/forward_pass.hpp"
#include "moesaic/train/settings.hpp"


namespace moesaic {

/// What a run reads, checked without any communicator: wrong input throws InputError here.
struct Inputs {
  explicit Inputs(const RunSettings& settings, int ranks);

  HfConfig config;
  ModelSpec spec;
  ProcessGrid grid;
  Datasets data;
};

/// The model over this job's ranks, its weights not yet set. Not movable: parts refer to each other.
class Assembly {
 public:
  /// Collective.
  Assembly(const RunSettings& settings, const Inputs& inputs, const MpiSession& session);
  Assembly(const Assembly&) = delete;

  Arena arena{host_memory()};
  Communicators communicators;
  LayerContext context;
  std::unique_ptr<ExpertExchange> exchange;
  SharedStatistics statistics;
  Model model;
  FullySharded sharding;
  ForwardPass forward_pass;

  /// Sets the weights as model.init says: at random, from a Hugging Face folder or from a checkpoint. Collective.
  void initialise(const RunSettings& settings, const Inputs& inputs);
  /// Names of all parameters of the whole model.
  std::vector<std::string> parameter_names() const;
};

}  // namespace moesaic
