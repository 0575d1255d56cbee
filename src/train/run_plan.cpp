#include "moesaic/train/run_plan.hpp"

#include <algorithm>
#include <numeric>

#include "moesaic/data/batch.hpp"
#include "moesaic/models/cost.hpp"
#include "moesaic/train/compute.hpp"

namespace moesaic {
namespace {

int first_rank(const ProcessGrid& grid, int stage) { return stage * (grid.ranks() / grid.extent(Axis::pipeline)); }

/// What a stage holds at about most: a step of one micro-batch, and the activations of all others that it has at once.
std::int64_t estimated_reach(const RunSettings& settings, const Decomposition& parts, int stage, const Rehearsal& one) {
  const BatchCut cut{settings.global_batch, settings.micro_batch, parts.grid.data_ranks()};
  const std::int64_t held = peak_activations_of(settings.schedule, parts.grid.extent(Axis::pipeline), stage,
                                                parts.chunks, cut.micro_batches());
  const std::int64_t activations = one.peaks[static_cast<std::size_t>(Label::activations)];
  return one.reach + (held - parts.chunks) * activations / parts.chunks;
}

/// The stages that may be the fullest, most likely first.
std::vector<int> candidates(const RunSettings& settings, const Decomposition& parts, std::size_t most) {
  const int stages = parts.grid.extent(Axis::pipeline);
  std::vector<int> order(static_cast<std::size_t>(stages));
  std::iota(order.begin(), order.end(), 0);
  if (order.size() <= most) return order;
  RunSettings one = settings;
  one.global_batch = std::min(settings.global_batch, settings.micro_batch * parts.grid.data_ranks());
  std::vector<std::int64_t> reach;
  for (int stage = 0; stage < stages; ++stage)
    reach.push_back(estimated_reach(settings, parts, stage,
                                    rehearse(one, parts, first_rank(parts.grid, stage), planned_device(settings))));
  std::ranges::stable_sort(order, std::ranges::greater{},
                           [&](int stage) { return reach[static_cast<std::size_t>(stage)]; });
  order.resize(most);
  return order;
}

std::vector<double> flops_by_stage(const Decomposition& parts, std::int64_t sequence) {
  const std::vector<double> blocks = flops_per_token_by_block(parts.spec, sequence);
  const int stages = parts.grid.extent(Axis::pipeline);
  std::vector<double> flops;
  for (int stage = 0; stage < stages; ++stage) {
    double sum = 0;
    for (const BlockRange& range : parts.ranges_of(first_rank(parts.grid, stage)))
      sum = std::accumulate(blocks.begin() + range.first, blocks.begin() + range.last, sum);
    flops.push_back(sum);
  }
  return flops;
}

}  // namespace

ExchangePlan exchange_of(const Rehearsal& rehearsal) {
  ExchangePlan plan;
  const std::map<std::string, std::int64_t ExchangePlan::*> axes{{"dense_shard", &ExchangePlan::shard},
                                                                 {"expert_shard", &ExchangePlan::shard},
                                                                 {"dense_replicate", &ExchangePlan::replicate},
                                                                 {"expert_replicate", &ExchangePlan::replicate},
                                                                 {"expert", &ExchangePlan::expert},
                                                                 {"context", &ExchangePlan::context},
                                                                 {"pipeline_down", &ExchangePlan::pipeline},
                                                                 {"pipeline_up", &ExchangePlan::pipeline}};
  for (const auto& [channel, bytes] : rehearsal.sent) {
    const auto axis = axes.find(channel);
    plan.*(axis == axes.end() ? &ExchangePlan::other : axis->second) += bytes;
  }
  return plan;
}

std::int64_t planned_memory(const RunSettings& settings) {
  constexpr std::int64_t by_default = 80'000'000'000;
  return settings.device_memory > 0 ? settings.device_memory : by_default;
}

FullestRank fullest_rank(const RunSettings& settings, const Decomposition& parts) {
  FullestRank fullest;
  for (const int stage : candidates(settings, parts, 3)) {
    Rehearsal rehearsal = rehearse(settings, parts, first_rank(parts.grid, stage), planned_device(settings));
    if (rehearsal.reach > fullest.rehearsal.reach) fullest = {stage, std::move(rehearsal)};
  }
  return fullest;
}

RunPlan::RunPlan(const RunSettings& settings, int ranks)
    : parts(settings, ranks), device(planned_device(settings)), type(storage_type(settings, device)),
      memory(planned_memory(settings)),
      micro_batches(BatchCut{settings.global_batch, settings.micro_batch, parts.grid.data_ranks()}.micro_batches()),
      flops_per_token(moesaic::flops_per_token(parts.spec, settings.data.sequence)),
      stage_flops(flops_by_stage(parts, settings.data.sequence)) {
  FullestRank found = fullest_rank(settings, parts);
  fullest = found.stage;
  rehearsal = std::move(found.rehearsal);
  if (device == DeviceKind::cuda && parts.grid.extent(Axis::expert) > 1)
    at_bound = rehearse(settings, parts, first_rank_of(fullest), device, ExpertLoad::full);
}

int RunPlan::first_rank_of(int stage) const { return first_rank(parts.grid, stage); }

}  // namespace moesaic
