#include "moesaic/train/decomposition.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <numeric>

#include "moesaic/base/log.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/models/cost.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/parallel/stage_layout.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

HfConfig load_config(const RunSettings& settings) {
  if (!settings.config.empty()) return HfConfig::load(settings.config);
  MOESAIC_VALIDATE(settings.init != "random",
                   "neither model.config nor a folder in model.init is given (nothing says what to train); "
                   "set model.config to a Hugging Face config.json");
  MOESAIC_VALIDATE(fs::exists(settings.init),
                   "model.init = {} does not exist; name a Hugging Face folder or a checkpoint", settings.init);
  if (is_hf_folder(settings)) return HfConfig::load(fs::path(settings.init) / "config.json");
  return HfConfig::parse(checkpoint_info(Hdf5File::open_serial(settings.init)).config, settings.init);
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

/// Every MoE layer's experts divide by grid.expert, and every stage has a block.
GridLimits limits_of(const RunSettings& settings, const ModelSpec& spec) {
  GridLimits limits{.stages = settings.layout.empty() ? all_blocks(spec).last / settings.chunks : 0};
  for (const BlockSpec& block : spec.blocks)
    if (block.sparse()) limits.experts = std::gcd(limits.experts, block.moe.experts);
  return limits;
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

/// The blocks of each virtual stage: as the deck says, else balanced by cost.
std::vector<Block> make_stages(const RunSettings& settings, const ModelSpec& spec, const ProcessGrid& grid) {
  const int stages = grid.extent(Axis::pipeline) * settings.chunks;
  if (!settings.layout.empty()) return parse_stage_layout(settings.layout, all_blocks(spec).last, stages);
  return balance_stages(flops_per_token_by_block(spec, settings.data.sequence), stages);
}

}  // namespace

bool is_hf_folder(const RunSettings& settings) { return settings.init != "random" && fs::is_directory(settings.init); }

Decomposition::Decomposition(const RunSettings& settings, int ranks)
    : config(load_config(settings)), spec(make_spec(settings, config)),
      grid(ProcessGrid::make(settings.grid, ranks, limits_of(settings, spec))), chunks(settings.chunks) {
  check_sequence(settings, spec, grid.extent(Axis::context));
  stages = make_stages(settings, spec, grid);
}

PipelinePlace Decomposition::place_of(int rank) const {
  return {grid.coordinate(rank, Axis::pipeline), grid.extent(Axis::pipeline), chunks};
}

std::vector<BlockRange> Decomposition::ranges_of(int rank) const {
  const auto pipeline = static_cast<std::size_t>(grid.extent(Axis::pipeline));
  std::vector<BlockRange> ranges;
  for (auto i = static_cast<std::size_t>(grid.coordinate(rank, Axis::pipeline)); i < stages.size(); i += pipeline)
    ranges.push_back({stages[i].begin, stages[i].end});
  return ranges;
}

StageBlocks Decomposition::blocks_of(const Model& model, int rank) const {
  StageBlocks stage;
  for (const auto& block : model.blocks()) stage.blocks.push_back(block.get());
  std::int64_t at = 0;
  for (const BlockRange& range : ranges_of(rank)) {
    stage.chunks.push_back({at, at + range.last - range.first});
    at = stage.chunks.back().end;
  }
  return stage;
}

void say_what_is_left_out(const ModelSpec& spec) {
  if (spec.prediction_depths == 0 || spec.predicts) return;
  log_line(
      "multi-token prediction ({} of the config's layers) is left out of training, as "
      "model.multi_token_prediction is not set",
      spec.prediction_depths);
}

Communicator& ranks_that_share(BalanceScope scope, const Communicators& communicators) {
  return scope == BalanceScope::batch ? *communicators.tokens : *communicators.context;
}

ReceiveBound receive_bound(const RunSettings& settings, const ProcessGrid& grid, DeviceKind device) {
  if (device == DeviceKind::cpu && !settings.bound_on_host) return {};
  return {.factor = settings.receive_bound,
          .tokens = settings.micro_batch * (settings.data.sequence / grid.extent(Axis::context))};
}

}  // namespace moesaic
