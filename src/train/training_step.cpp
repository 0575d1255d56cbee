#include "moesaic/train/training_step.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <span>

#include "moesaic/comm/agreement.hpp"
#include "moesaic/optim/learning_rate.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {

/// Sums over a step: first this rank's, after share() everybody's.
struct TrainingStep::Totals {
  std::int64_t labels = 0;                 ///< that count, in the global batch
  std::int64_t next_labels = 0;            ///< the same of multi-token prediction
  std::vector<std::int64_t> batch_tokens;  ///< of each micro-batch over all ranks
  std::int64_t tokens = 0;
  LossSums loss_sums;
  double auxiliary_loss = 0;  ///< mean over MoE layers
  double expert_load = 1;     ///< of the most uneven MoE layer
  double stop = 0;
  std::optional<StepOverflow> overflow;
  bool predicts = false;                             ///< the micro-batches do
  std::vector<MoeCounts> counts;                     ///< of the MoE layers here
  std::vector<std::vector<float>> selection_biases;  ///< of these layers, where the step updates them
};

namespace {

bool finite(const StepResult& result) {
  return std::isfinite(result.loss) && std::isfinite(result.prediction_loss.value_or(0)) &&
         std::isfinite(result.gradient_norm);
}

/// 0 without labels.
double mean(double sum, std::int64_t labels) { return sum / static_cast<double>(std::max<std::int64_t>(labels, 1)); }

/// Largest over mean load of an expert; 1 without any.
double largest_over_mean(std::span<const std::int64_t> load) {
  const std::int64_t sum = std::accumulate(load.begin(), load.end(), std::int64_t{0});
  const std::int64_t largest = *std::max_element(load.begin(), load.end());
  return sum == 0 ? 1 : static_cast<double>(largest * std::ssize(load)) / static_cast<double>(sum);
}

}  // namespace

TrainingStep::TrainingStep(const StepPlan& plan, StageRunner& runner, Model& model, FullySharded& sharding,
                           Optimizer& optimizer, const Communicators& communicators, Phases& phases)
    : plan_(plan), runner_(&runner), model_(&model), sharding_(&sharding), optimizer_(&optimizer),
      communicators_(&communicators), phases_(&phases) {}

StepResult TrainingStep::run(std::int64_t step, const std::vector<HostBatch>& batches, bool stop) {
  Totals totals = gradients(batches, stop);
  if (totals.overflow && totals.overflow->discarded()) {
    StepResult discarded;
    discarded.stop = totals.stop > 0;
    discarded.overflow = totals.overflow;
    return discarded;
  }
  StepResult result{.loss = mean(totals.loss_sums.loss, totals.labels),
                    .auxiliary_loss = totals.auxiliary_loss,
                    .prediction_loss = std::nullopt,
                    .gradient_norm = optimizer_->gradient_norm(),
                    .lr = learning_rate(plan_.optimizer, step, plan_.steps),
                    .expert_load = totals.expert_load,
                    .stop = totals.stop > 0,
                    .skipped = false,
                    .overflow = totals.overflow};
  if (totals.predicts) result.prediction_loss = mean(totals.loss_sums.prediction, totals.next_labels);
  result.skipped = !finite(result);
  if (result.skipped) return result;
  optimizer_->update(step, result.lr, result.gradient_norm);
  if (plan_.balance == Balance::bias) update_selection_bias(totals);
  return result;
}

/// The gradients of the global batch, and what was counted on the way.
TrainingStep::Totals TrainingStep::gradients(const std::vector<HostBatch>& batches, bool stop) {
  sharding_->zero_gradients();
  model_->zero_accounts();
  Totals totals = count(batches);
  totals.stop = stop ? 1 : 0;
  MicroBatches here(batches, optimizer_->context());
  scale(here.views(), totals);
  runner_->run(schedule(std::ssize(batches)), here.views(), reduction(), phases_);

  phases_->enter(Phase::optimizer);
  sharding_->finish_gradients();
  read_figures(totals);
  share(totals);
  return totals;
}

std::string TrainingStep::diagnose(const std::vector<HostBatch>& batches) {
  std::optional<NonFinite> found;
  {
    OperatorCheck check(operators(optimizer_->context().stream.device));
    runner_->check_with(&check);
    gradients(batches, false);
    runner_->check_with(nullptr);
    found = check.first();
  }
  // Ranks of earlier stages come first; what they give is what later ones get.
  Communicator& world = *communicators_->world;
  const std::int64_t mine = found ? world.rank() : world.size();
  std::vector<std::int64_t> all(static_cast<std::size_t>(world.size()));
  world.all_gather(host_view(&mine, {1}), host_view(all.data(), {world.size()}));
  const auto first = static_cast<int>(*std::min_element(all.begin(), all.end()));
  if (first == world.size())
    return "the same step done again gave nothing but finite numbers: no fault of data or settings, but perhaps of the "
           "hardware; run the same command again on other nodes";
  const std::string text = found ? fmt::format("done again, {} in {} is the first that is not finite (rank {}; {})",
                                               found->operation, found->place, world.rank(),
                                               found->finite_inputs ? "its inputs were finite"
                                                                    : "an input was not either: look at the weights")
                                 : std::string();
  return broadcast_text(world, text, first) +
         "; lower optimizer.lr, set optimizer.clip, or look at the data of that step";
}

std::vector<ScheduleStep> TrainingStep::schedule(std::int64_t micro_batches) const {
  const PipelinePlace& place = runner_->place();
  return make_schedule(plan_.schedule, place.stages, place.stage, place.chunks, micro_batches);
}

Reduction TrainingStep::reduction() const {
  return plan_.reduce_every_micro_batch ? Reduction::every_micro_batch : Reduction::last_micro_batch;
}

/// What every rank must know before the first forward: the counted labels and tokens of the global batch.
TrainingStep::Totals TrainingStep::count(const std::vector<HostBatch>& batches) {
  std::vector<std::int64_t> counts(batches.size() + 2, 0);
  std::int64_t &labels = counts[batches.size()], &next_labels = counts[batches.size() + 1];
  Totals totals;
  for (std::size_t m = 0; m < batches.size(); ++m) {
    counts[m] = batches[m].sequences * batches[m].length;
    labels += batches[m].counted;
    next_labels += batches[m].next_counted;
    totals.predicts = batches[m].predicts;
  }
  communicators_->tokens->all_reduce(host_view(counts.data(), {static_cast<std::int64_t>(counts.size())}));
  totals.labels = labels;
  totals.next_labels = next_labels;
  counts.resize(batches.size());
  for (std::int64_t tokens : counts) totals.tokens += tokens;
  totals.batch_tokens = std::move(counts);
  return totals;
}

/// Gives the micro-batches the factors that make their losses means: over the global batch, then over MoE layers.
void TrainingStep::scale(std::vector<MicroBatch>& views, const Totals& totals) const {
  const double layers = static_cast<double>(std::max<std::int64_t>(model_->moe_layers(), 1));
  const double coefficient = plan_.balance == Balance::auxiliary ? plan_.auxiliary_coefficient / layers : 0;
  const auto all = static_cast<double>(std::max<std::int64_t>(totals.tokens, 1));
  for (std::size_t m = 0; m < views.size(); ++m) {
    MicroBatch& batch = views[m];
    batch.loss_scale = mean(1, totals.labels);
    batch.prediction_scale = mean(plan_.prediction_weight, totals.next_labels);
    // The ranks' shares add up, in either scope.
    if (plan_.scope == BalanceScope::sequence) {
      batch.balance_gradient = coefficient * static_cast<double>(plan_.length) / all;
      batch.balance_weight = static_cast<double>(batch.length) / all;
    } else {
      batch.balance_tokens = totals.batch_tokens[m];
      batch.balance_gradient = coefficient * static_cast<double>(totals.batch_tokens[m]) / all;
      batch.balance_weight = static_cast<double>(batch.tokens()) / all;
    }
  }
}

/// Everything of the device that the host wants to know of a step, at the one time when it waits for it.
void TrainingStep::read_figures(Totals& totals) {
  for (const MoeAccounts& account : model_->accounts()) communicators_->tokens->all_reduce(account.load);
  const OperatorContext& on = optimizer_->context();
  Readings readings(on.stream, *on.arena);
  runner_->add_losses(readings);
  model_->add_counts(readings);
  optimizer_->add_squares(readings);
  if (plan_.balance == Balance::bias) {
    for (const MoeAccounts& account : model_->accounts()) {
      auto& bias = totals.selection_biases.emplace_back(static_cast<std::size_t>(account.selection_bias.size()));
      readings.add(account.selection_bias, host_view(bias.data(), {std::ssize(bias)}));
    }
  }
  readings.read();
  totals.loss_sums = runner_->take_loss_sums();
  totals.counts = model_->counts();
}

/// Sums over all ranks, in one exchange: the losses, the wish to stop, how often receive buffers overflowed, the auxiliary
/// loss of each MoE layer, and how uneven its experts' load is (said by one rank of its stage).
void TrainingStep::share(Totals& totals) {
  const auto layers = static_cast<std::size_t>(model_->moe_layers());
  constexpr std::size_t first = 4;  // of what comes from MoE layers
  const auto overflows = static_cast<double>(
      std::ranges::count_if(totals.counts, &std::optional<ExpertOverflow>::has_value, &MoeCounts::overflow));
  std::vector<double> sums{totals.loss_sums.loss, totals.loss_sums.prediction, totals.stop, overflows};
  sums.resize(first + 2 * layers, 0.0);
  for (std::size_t i = 0; i < totals.counts.size(); ++i) {
    const auto layer = static_cast<std::size_t>(model_->account_layers()[i]);
    sums[first + layer] = totals.counts[i].auxiliary_loss;
    if (communicators_->tokens->rank() == 0) sums[first + layers + layer] = largest_over_mean(totals.counts[i].load);
  }
  communicators_->world->all_reduce(host_view(sums.data(), {std::ssize(sums)}));
  totals.loss_sums = {sums[0], sums[1]};
  totals.stop = sums[2];
  if (sums[3] > 0) totals.overflow = fullest(totals.counts);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    totals.auxiliary_loss += sums[first + layer] / static_cast<double>(layers);
    totals.expert_load = std::max(totals.expert_load, sums[first + layers + layer]);
  }
}

/// Of all ranks' overflows the one beyond its bound by most. Collective; some rank has one.
std::optional<StepOverflow> TrainingStep::fullest(const std::vector<MoeCounts>& counts) const {
  using Figures = std::array<std::int64_t, 7>;
  Communicator& world = *communicators_->world;
  StepOverflow mine;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto& overflow = counts[i].overflow;
    if (overflow && overflow->fullness() > mine.fullness())
      mine = {*overflow, world.rank(), model_->account_layers()[i]};
  }
  const Figures sent{mine.rows, mine.slots, mine.most_rows, mine.most_slots, mine.range, mine.rounds, mine.layer};
  std::vector<std::int64_t> all(sent.size() * static_cast<std::size_t>(world.size()));
  world.all_gather(host_view(sent.data(), {std::ssize(sent)}), host_view(all.data(), {std::ssize(all)}));
  StepOverflow fullest;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::int64_t* of = all.data() + rank * std::ssize(sent);
    const StepOverflow its{{of[0], of[1], of[2], of[3], of[4], of[5]}, rank, of[6]};
    if (its.fullness() > fullest.fullness()) fullest = its;
  }
  return fullest;
}

/// Balancing without a loss (Wang et al. 2024, arXiv 2408.15664): bias_i += rate * sign(mean load - load_i).
void TrainingStep::update_selection_bias(Totals& totals) {
  for (std::size_t i = 0; i < totals.counts.size(); ++i) {
    const std::vector<std::int64_t>& load = totals.counts[i].load;
    const std::int64_t sum = std::accumulate(load.begin(), load.end(), std::int64_t{0});
    std::vector<float>& bias = totals.selection_biases[i];
    for (std::size_t e = 0; e < load.size(); ++e) {
      const std::int64_t below_mean = sum - load[e] * std::ssize(load);
      const double sign = below_mean > 0 ? 1 : below_mean < 0 ? -1 : 0;
      bias[e] += static_cast<float>(plan_.bias_rate * sign);
    }
    upload(optimizer_->context().stream, host_view(std::as_const(bias).data(), {std::ssize(bias)}),
           model_->accounts()[i].selection_bias);
  }
}

}  // namespace moesaic
