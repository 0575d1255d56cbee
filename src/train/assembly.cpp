#include "moesaic/train/assembly.hpp"

#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <filesystem>

#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_weights.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/models/cost.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/parallel/initialise.hpp"
#include "moesaic/parallel/stage_layout.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

bool is_hf_folder(const RunSettings& settings) { return settings.init != "random" && fs::is_directory(settings.init); }

HfConfig load_config(const RunSettings& settings) {
  if (!settings.config.empty()) return HfConfig::load(settings.config);
  MOESAIC_VALIDATE(settings.init != "random",
                   "neither model.config nor a folder in model.init is given (nothing says what to train); "
                   "set model.config to a Hugging Face config.json");
  MOESAIC_VALIDATE(fs::exists(settings.init),
                   "model.init = {} does not exist; name a Hugging Face folder or a checkpoint", settings.init);
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
  for (const BlockSpec& block : spec.blocks)
    MOESAIC_VALIDATE(!block.sparse() || block.moe.experts % grid.extent(Axis::expert) == 0,
                     "grid.expert = {} does not divide the {} experts of a layer (each rank holds as many); "
                     "use a divisor of {}",
                     grid.extent(Axis::expert), block.moe.experts, block.moe.experts);
}

/// "192 or 256": the multiples of `unit` around `number`.
std::string nearest_multiples(std::int64_t number, std::int64_t unit) {
  const std::int64_t below = number / unit * unit;
  return below == 0 ? fmt::format("{}", unit) : fmt::format("{} or {}", below, below + unit);
}

void check_sequence(const RunSettings& settings, const ModelSpec& spec, int context) {
  const std::int64_t sequence = settings.data.sequence, pieces = 2 * context;
  MOESAIC_VALIDATE(
      sequence % pieces == 0,
      "data.sequence = {} does not divide by 2 x grid.context = {} (each context rank owns two blocks of a "
      "sequence); use {}",
      sequence, pieces, nearest_multiples(sequence, pieces));
  MOESAIC_VALIDATE(
      settings.data.sequence <= spec.max_positions,
      "data.sequence = {} is longer than the {} positions of the model (max_position_embeddings); shorten it",
      settings.data.sequence, spec.max_positions);
}

/// Not even one rank's master weights, gradients and moments would fit: said before anything is allocated.
void check_memory(const ModelSpec& spec, int ranks) {
  const double needed = 16.0 * static_cast<double>(spec.total_parameters()) / ranks;
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  MOESAIC_VALIDATE(
      needed < memory,
      "a rank's share of the model takes {} (16 bytes for each of {} parameters over {} ranks) and this "
      "host has {}; use more ranks, or a slice of the model (model.layers, model.vocabulary, model.experts)",
      format_bytes(static_cast<std::int64_t>(needed)), format_count(static_cast<double>(spec.total_parameters())),
      ranks, format_bytes(static_cast<std::int64_t>(memory)));
}

/// The ranks whose tokens a balance loss is taken of: those of one sequence, or of one micro-batch.
Communicator& ranks_that_share(BalanceScope scope, const Communicators& communicators) {
  return scope == BalanceScope::batch ? *communicators.tokens : *communicators.context;
}

void check_weights(const RunSettings& settings, const ModelSpec& spec) {
  if (settings.init == "random") return;
  MOESAIC_VALIDATE(fs::exists(settings.init),
                   "model.init = {} does not exist; name a Hugging Face folder or a checkpoint", settings.init);
  if (!is_hf_folder(settings)) return;
  const ModelOverrides& cut = settings.overrides;
  check_hf_weights(SafetensorsFolder(settings.init), hf_pieces(spec), cut.vocabulary > 0 || cut.experts > 0);
}

/// The blocks of each virtual stage: as the deck says, else balanced by cost.
std::vector<Block> make_stages(const RunSettings& settings, const ModelSpec& spec, const ProcessGrid& grid) {
  const int stages = grid.extent(Axis::pipeline) * settings.chunks;
  if (!settings.layout.empty()) return parse_stage_layout(settings.layout, all_blocks(spec).last, stages);
  return balance_stages(flops_per_token_by_block(spec, settings.data.sequence), stages);
}

PipelinePlace place_of(const RunSettings& settings, const ProcessGrid& grid, int rank) {
  return {grid.coordinate(rank, Axis::pipeline), grid.extent(Axis::pipeline), settings.chunks};
}

/// The blocks of this rank, chunk by chunk.
std::vector<BlockRange> ranges_of(const Inputs& inputs, int rank) {
  const auto pipeline = static_cast<std::size_t>(inputs.grid.extent(Axis::pipeline));
  std::vector<BlockRange> ranges;
  for (auto i = static_cast<std::size_t>(inputs.grid.coordinate(rank, Axis::pipeline)); i < inputs.stages.size();
       i += pipeline)
    ranges.push_back({inputs.stages[i].begin, inputs.stages[i].end});
  return ranges;
}

StageBlocks blocks_of(const Model& model, const Inputs& inputs, int rank) {
  StageBlocks stage;
  for (const auto& block : model.blocks()) stage.blocks.push_back(block.get());
  std::int64_t at = 0;
  for (const BlockRange& range : ranges_of(inputs, rank)) {
    stage.chunks.push_back({at, at + range.last - range.first});
    at = stage.chunks.back().end;
  }
  return stage;
}

LayerContext host_context(Arena& arena, Recompute recompute) {
  return {.ops = &operators(DeviceKind::cpu),
          .on = {.stream = host_stream, .arena = &arena},
          .type = DType::f32,
          .recompute = recompute};
}

}  // namespace

Inputs::Inputs(const RunSettings& settings, int ranks)
    : config(load_config(settings)), spec(make_spec(settings, config)), grid(ProcessGrid::make(settings.grid, ranks)) {
  check_grid(grid, spec);
  check_sequence(settings, spec, grid.extent(Axis::context));
  check_memory(spec, ranks);
  check_weights(settings, spec);
  stages = make_stages(settings, spec, grid);
  data = open_datasets(settings.data, spec.vocabulary, settings.seed);
}

std::string starting_checkpoint(const RunSettings& settings) {
  if (settings.resume == Resume::never) return "";
  if (const auto latest = CheckpointStore(settings.directory, settings.keep).latest()) return latest->string();
  return settings.resume == Resume::path ? settings.resume_path : "";
}

void check_starting_weights(const RunSettings& settings, const Inputs& inputs, bool training) {
  const std::string resumed = starting_checkpoint(settings);
  if (resumed.empty() && (settings.init == "random" || is_hf_folder(settings))) return;
  Arena arena(host_memory());
  LocalSequences sequences;
  LocalExperts experts;
  Model model(inputs.spec, 1, sequences, experts, nullptr, host_context(arena, settings.recompute));
  const bool with_moments = training && !resumed.empty();
  check_checkpoint(resumed.empty() ? settings.init : resumed,
                   expected_state(model, with_moments ? std::optional(settings.optimizer.moments) : std::nullopt));
}

Assembly::Assembly(const RunSettings& settings, const Inputs& inputs, const MpiSession& session)
    : communicators(make_communicators(inputs.grid, MPI_COMM_WORLD, arena)),
      context(host_context(arena, settings.recompute)),
      sequences(make_sequence_exchange(*communicators.context, settings.context_exchange)),
      experts(make_expert_exchange(*communicators.expert)),
      statistics(ranks_that_share(settings.auxiliary_scope, communicators)),
      model(inputs.spec, settings.data.sequence, *sequences, *experts, &statistics, context,
            ranges_of(inputs, session.rank())),
      sharding(model.blocks(), context, inputs.grid, session.rank(), communicators),
      link(place_of(settings, inputs.grid, session.rank()), context, *communicators.pipeline_down,
           *communicators.pipeline_up, inputs.spec.hidden),
      runner(blocks_of(model, inputs, session.rank()), sharding, link, context) {
  if (inputs.spec.tied_head && inputs.grid.extent(Axis::pipeline) > 1)
    sharding.tie_across(*communicators.pipeline_down);
}

void Assembly::initialise(const RunSettings& settings, const Inputs& inputs) {
  if (settings.init != "random" && !is_hf_folder(settings)) {
    load_checkpoint(settings.init, MPI_COMM_WORLD, parameters());
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
  for (const UnitSpec& unit : model.units())
    for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
  return names;
}

}  // namespace moesaic
