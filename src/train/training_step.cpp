#include "moesaic/train/training_step.hpp"

#include <algorithm>

#include "moesaic/optim/learning_rate.hpp"

namespace moesaic {

/// Sums over a step: first this rank's, after share() everybody's.
struct TrainingStep::Totals {
  std::int64_t labels = 0;                 ///< that count, in the global batch
  std::vector<std::int64_t> batch_tokens;  ///< of each micro-batch over all data ranks
  std::int64_t tokens = 0;
  double loss_sum = 0;
  double stop = 0;
};

TrainingStep::TrainingStep(const StepPlan& plan, ForwardPass& forward_pass, Model& model, FullySharded& sharding,
                           Optimizer& optimizer, const LayerContext& context, Communicator& data_ranks, Phases& phases)
    : plan_(plan), forward_pass_(&forward_pass), model_(&model), sharding_(&sharding), optimizer_(&optimizer),
      context_(context), data_ranks_(&data_ranks), phases_(&phases) {}

StepResult TrainingStep::run(std::int64_t step, const std::vector<HostBatch>& batches, bool stop) {
  sharding_->zero_gradients();
  model_->zero_accounts();
  Totals totals = count(batches);
  totals.stop = stop ? 1 : 0;
  for (std::size_t m = 0; m < batches.size(); ++m)
    forward_backward(scaled(batches[m], totals.batch_tokens[m], totals), reduce_after(m, batches.size()), totals);

  phases_->enter(Phase::optimizer);
  sharding_->finish_gradients();
  share(totals);
  StepResult result{.loss = totals.loss_sum / static_cast<double>(std::max<std::int64_t>(totals.labels, 1)),
                    .auxiliary_loss = auxiliary_loss(),
                    .gradient_norm = optimizer_->gradient_norm(),
                    .lr = learning_rate(plan_.optimizer, step, plan_.steps),
                    .expert_load = expert_load(),
                    .stop = totals.stop > 0};
  optimizer_->update(step, result.lr, result.gradient_norm);
  if (plan_.balance == Balance::bias) update_selection_bias();
  return result;
}

void TrainingStep::forward_backward(const MicroBatch& batch, bool reduce, Totals& totals) {
  phases_->enter(Phase::forward);
  std::vector<std::unique_ptr<BlockState>> states;
  totals.loss_sum += forward_pass_->run(batch, states);

  phases_->enter(Phase::backward);
  Tensor gradient;
  for (int block = static_cast<int>(states.size()) - 1; block >= 0; --block) {
    std::unique_ptr<BlockState> state = std::move(states[static_cast<std::size_t>(block)]);
    gradient = backward(block, batch, *state, std::move(gradient));
    if (reduce) sharding_->reduce(block);
  }
  sharding_->complete_reductions();
}

Tensor TrainingStep::backward(int block, const MicroBatch& batch, BlockState& state, Tensor gradient) {
  const auto reads_weights = [&](int b) {
    return b >= 0 && model_->blocks()[static_cast<std::size_t>(b)]->backward_reads_weights();
  };
  const ModelBlock& layers = *model_->blocks()[static_cast<std::size_t>(block)];
  BlockViews weights;
  if (reads_weights(block)) weights = sharding_->gather(block, reads_weights(block - 1) ? block - 1 : -1);
  Tensor input_gradient = layers.backward_input(context_, weights, batch, state, std::move(gradient));
  sharding_->release(block);
  layers.backward_weight(context_, batch, state, sharding_->gradients(block));
  return input_gradient;
}

/// What every rank must know before the first forward: the counted labels and tokens of the global batch.
TrainingStep::Totals TrainingStep::count(const std::vector<HostBatch>& batches) {
  std::vector<std::int64_t> counts(batches.size() + 1, 0);
  for (std::size_t m = 0; m < batches.size(); ++m) {
    counts[m] = batches[m].sequences * batches[m].length;
    counts.back() += batches[m].counted;
  }
  data_ranks_->all_reduce(host_view(counts.data(), {static_cast<std::int64_t>(counts.size())}));
  Totals totals;
  totals.labels = counts.back();
  counts.pop_back();
  for (std::int64_t tokens : counts) totals.tokens += tokens;
  totals.batch_tokens = std::move(counts);
  return totals;
}

/// The micro-batch with the factors of INTERFACE's losses: means over the global batch, then over MoE layers.
MicroBatch TrainingStep::scaled(const HostBatch& host, std::int64_t batch_tokens, const Totals& totals) const {
  MicroBatch batch = view_of(host);
  batch.loss_scale = 1.0 / static_cast<double>(std::max<std::int64_t>(totals.labels, 1));
  const double layers = static_cast<double>(std::max<std::size_t>(model_->accounts().size(), 1));
  const double coefficient = plan_.balance == Balance::auxiliary ? plan_.auxiliary_coefficient / layers : 0;
  if (plan_.scope == BalanceScope::sequence) {
    batch.balance_weight = static_cast<double>(plan_.length) / static_cast<double>(totals.tokens);
    batch.balance_gradient = coefficient * batch.balance_weight;
  } else {
    const auto all = static_cast<double>(totals.tokens);
    batch.balance_tokens = batch_tokens;
    batch.balance_gradient = coefficient * static_cast<double>(batch_tokens) / all;
    batch.balance_weight = static_cast<double>(batch.tokens()) / all;  // the ranks' shares add up
  }
  return batch;
}

bool TrainingStep::reduce_after(std::size_t m, std::size_t batches) const {
  return plan_.reduce_every_micro_batch || m + 1 == batches;
}

/// Sums the loss, the auxiliary losses, the wish to stop and the experts' loads over the data ranks.
void TrainingStep::share(Totals& totals) {
  Communicator& ranks = *data_ranks_;
  std::vector<double> losses{totals.loss_sum, totals.stop};
  for (const MoeAccounts& layer : model_->accounts()) losses.push_back(*layer.auxiliary_loss.data<double>());
  ranks.all_reduce(host_view(losses.data(), {static_cast<std::int64_t>(losses.size())}));
  totals.loss_sum = losses[0];
  totals.stop = losses[1];
  for (std::size_t layer = 0; layer < model_->accounts().size(); ++layer)
    *model_->accounts()[layer].auxiliary_loss.data<double>() = losses[layer + 2];
  for (const MoeAccounts& layer : model_->accounts()) ranks.all_reduce(layer.load);
}

double TrainingStep::auxiliary_loss() const {
  double sum = 0;
  for (const MoeAccounts& layer : model_->accounts()) sum += *layer.auxiliary_loss.data<double>();
  return model_->accounts().empty() ? 0 : sum / static_cast<double>(model_->accounts().size());
}

double TrainingStep::expert_load() const {
  double worst = 1;
  for (const MoeAccounts& layer : model_->accounts()) {
    const auto* load = layer.load.data<std::int64_t>();
    std::int64_t largest = 0, sum = 0;
    for (std::int64_t e = 0; e < layer.load.size(); ++e) {
      largest = std::max(largest, load[e]);
      sum += load[e];
    }
    if (sum > 0) worst = std::max(worst, static_cast<double>(largest * layer.load.size()) / static_cast<double>(sum));
  }
  return worst;
}

/// Balancing without a loss (Wang et al. 2024, arXiv 2408.15664): bias_i += rate * sign(mean load - load_i).
void TrainingStep::update_selection_bias() {
  for (const MoeAccounts& layer : model_->accounts()) {
    const auto* load = layer.load.data<std::int64_t>();
    const std::int64_t experts = layer.load.size();
    std::int64_t sum = 0;
    for (std::int64_t e = 0; e < experts; ++e) sum += load[e];
    for (std::int64_t e = 0; e < experts; ++e) {
      const std::int64_t below_mean = sum - load[e] * experts;
      const double sign = below_mean > 0 ? 1 : below_mean < 0 ? -1 : 0;
      layer.selection_bias.data<float>()[e] += static_cast<float>(plan_.bias_rate * sign);
    }
  }
}

}  // namespace moesaic
