#include "moesaic/train/assembly.hpp"

#include <mpi.h>

#include <filesystem>

#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_weights.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/parallel/initialise.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

bool is_hf_folder(const RunSettings& settings) { return settings.init != "random" && fs::is_directory(settings.init); }

HfConfig load_config(const RunSettings& settings) {
  if (!settings.config.empty()) return HfConfig::load(settings.config);
  MOESAIC_VALIDATE(settings.init != "random",
                   "neither model.config nor a folder in model.init is given (nothing says what to train); "
                   "set model.config to a Hugging Face config.json");
  MOESAIC_VALIDATE(fs::exists(settings.init), "model.init = {} does not exist; name a Hugging Face folder or a checkpoint",
                   settings.init);
  if (is_hf_folder(settings)) return HfConfig::load(fs::path(settings.init) / "config.json");
  return HfConfig::parse(read_checkpoint_info(settings.init, MPI_COMM_SELF).config, settings.init);
}

/// The architecture of the config, balanced as the deck says.
ModelSpec make_spec(const RunSettings& settings, const HfConfig& config) {
  ModelSpec spec = model_spec(config, settings.overrides);
  for (BlockSpec& block : spec.blocks) {
    block.moe.balance = settings.balance;
    block.moe.scope = settings.auxiliary_scope;
    block.moe.balanced_router = settings.balanced_router;
  }
  return spec;
}

void check_grid(const ProcessGrid& grid, const ModelSpec& spec) {
  for (Axis axis : {Axis::pipeline, Axis::context})
    MOESAIC_VALIDATE(grid.extent(axis) == 1, "grid.{} = {} is not built yet; leave it at 1", name_of(axis),
                     grid.extent(axis));
  for (const BlockSpec& block : spec.blocks)
    MOESAIC_VALIDATE(!block.sparse() || block.moe.experts % grid.extent(Axis::expert) == 0,
                     "grid.expert = {} does not divide the {} experts of a layer (each rank holds as many); "
                     "use a divisor of {}", grid.extent(Axis::expert), block.moe.experts, block.moe.experts);
}

void check_sequence(const RunSettings& settings, const ModelSpec& spec) {
  MOESAIC_VALIDATE(settings.data.sequence <= spec.max_positions,
                   "data.sequence = {} is longer than the {} positions of the model (max_position_embeddings); shorten it",
                   settings.data.sequence, spec.max_positions);
}

void check_weights(const RunSettings& settings, const ModelSpec& spec) {
  if (settings.init == "random") return;
  MOESAIC_VALIDATE(fs::exists(settings.init), "model.init = {} does not exist; name a Hugging Face folder or a checkpoint",
                   settings.init);
  if (!is_hf_folder(settings)) return;
  const ModelOverrides& cut = settings.overrides;
  check_hf_weights(SafetensorsFolder(settings.init), hf_pieces(spec), cut.vocabulary > 0 || cut.experts > 0);
}

LayerContext host_context(Arena& arena) {
  return {.ops = &operators(DeviceKind::cpu), .on = {.stream = host_stream, .arena = &arena}, .type = DType::f32};
}

}  // namespace

Inputs::Inputs(const RunSettings& settings, int ranks)
    : config(load_config(settings)), spec(make_spec(settings, config)), grid(ProcessGrid::make(settings.grid, ranks)) {
  check_grid(grid, spec);
  check_sequence(settings, spec);
  check_weights(settings, spec);
  data = open_datasets(settings.data, spec.vocabulary, settings.seed);
}

Assembly::Assembly(const RunSettings& settings, const Inputs& inputs, const MpiSession& session)
    : communicators(make_communicators(inputs.grid, MPI_COMM_WORLD, arena)),
      context(host_context(arena)),
      exchange(make_expert_exchange(*communicators.expert)),
      statistics(*communicators.data),
      model(inputs.spec, settings.data.sequence, *exchange, &statistics, context),
      sharding(model.blocks(), context, inputs.grid, session.rank(), communicators),
      forward_pass(model, sharding, context, *communicators.data) {}

void Assembly::initialise(const RunSettings& settings, const Inputs& inputs) {
  if (settings.init != "random" && !is_hf_folder(settings)) {
    load_checkpoint(settings.init, MPI_COMM_WORLD, parameter_state(sharding.units(), model, communicators.world->rank()));
    return;
  }
  together(*communicators.world, [&] {
    const auto pieces = hf_pieces(inputs.spec);
    std::optional<SafetensorsFolder> folder;
    if (is_hf_folder(settings)) folder.emplace(settings.init);
    for (const auto& unit : sharding.units()) {
      if (unit->tied()) continue;
      if (folder)
        load_hf_weights(*folder, pieces, *unit);
      else
        initialise_random(*unit, settings.seed, inputs.spec.initializer_range);
    }
  });
}

std::vector<std::string> Assembly::parameter_names() const {
  std::vector<std::string> names;
  for (const auto& unit : sharding.units())
    for (const ParameterSpec& parameter : unit->spec().parameters) names.push_back(parameter.name);
  return names;
}

}  // namespace moesaic
