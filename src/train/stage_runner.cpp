#include "moesaic/train/stage_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "moesaic/layers/prediction_head.hpp"
#include "moesaic/tensor/timeline.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

/// A block's work on a micro-batch, in the timeline.
auto block_span(const ModelBlock& layers, const char* direction, const ScheduleStep& step) {
  return [&layers, direction, &step] {
    return SpanText{layers.units().front().name, fmt::format("{}, micro-batch {}", direction, step.micro_batch)};
  };
}

}  // namespace

void StageRunner::run(const std::vector<ScheduleStep>& schedule, const std::vector<MicroBatch>& batches,
                      Reduction reduction, Phases* phases) {
  const auto batch_of = [&](const ScheduleStep& step) { return batches[static_cast<std::size_t>(step.micro_batch)]; };
  weights_order_ = order_of_weights(schedule);
  weights_taken_ = 0;
  reduction_ = reduction;
  trains_ = std::any_of(schedule.begin(), schedule.end(), [](const auto& step) { return step.work != Work::forward; });
  losses_ = context_.on.arena->tensor(DType::f64, {2, std::ssize(batches)}, Label::batch);
  context_.ops->fill(context_.on, 0, losses_);
  states_.clear();
  states_.resize(batches.size());
  for (auto& states : states_) states.resize(stage_.blocks.size());

  if (!schedule.empty()) link_->initiate_receive(schedule[0], batch_of(schedule[0]).tokens());
  for (std::size_t i = 0; i < schedule.size(); ++i) {
    const ScheduleStep& step = schedule[i];
    if (i + 1 < schedule.size()) link_->initiate_receive(schedule[i + 1], batch_of(schedule[i + 1]).tokens());
    if (phases) phases->enter(step.work == Work::forward ? Phase::forward : Phase::backward);
    switch (step.work) {
      case Work::forward: forward(step, batch_of(step)); break;
      case Work::backward: backward_input(step, batch_of(step), true); break;
      case Work::backward_input: backward_input(step, batch_of(step), false); break;
      case Work::backward_weight: backward_weight(step, batch_of(step)); break;
    }
    link_->sweep();
  }
  sharding_->complete_reductions();
  link_->complete_sends();
}

void StageRunner::add_losses(Readings& readings) {
  losses_read_.resize(static_cast<std::size_t>(losses_.view().size()));
  readings.add(losses_, host_view(losses_read_.data(), losses_.view().extents()));
}

LossSums StageRunner::take_loss_sums() {
  losses_.reset();
  const auto half = losses_read_.begin() + std::ssize(losses_read_) / 2;
  return {std::accumulate(losses_read_.begin(), half, 0.0), std::accumulate(half, losses_read_.end(), 0.0)};
}

std::vector<int> StageRunner::order_of_weights(const std::vector<ScheduleStep>& schedule) const {
  std::vector<int> order;
  for (const ScheduleStep& step : schedule) {
    const auto first = static_cast<int>(blocks_of(step).begin), end = static_cast<int>(blocks_of(step).end);
    if (step.work == Work::forward)
      for (int block = first; block < end; ++block) order.push_back(block);
    if (step.work == Work::backward || step.work == Work::backward_input)
      for (int block = end - 1; block >= first; --block)
        if (stage_.blocks[static_cast<std::size_t>(block)]->backward_reads_weights()) order.push_back(block);
  }
  return order;
}

BlockViews StageRunner::take_weights(int block) {
  MOESAIC_ASSERT(weights_order_[weights_taken_] == block);
  ++weights_taken_;
  const auto next = std::find_if(weights_order_.begin() + static_cast<std::ptrdiff_t>(weights_taken_),
                                 weights_order_.end(), [&](int other) { return other != block; });
  return sharding_->gather(block, next == weights_order_.end() ? -1 : *next);
}

// A block that is needed again at once (the head, whose backward follows its forward) stays gathered.
void StageRunner::return_weights(int block) {
  const bool next = weights_taken_ < weights_order_.size() && weights_order_[weights_taken_] == block;
  if (!next) sharding_->release(block);
}

void StageRunner::check_with(OperatorCheck* check) {
  check_ = check;
  context_.ops = check ? &check->table() : own_operators_;
}

const ModelBlock& StageRunner::enter(int block, const ScheduleStep& step) const {
  const ModelBlock& layers = *stage_.blocks[static_cast<std::size_t>(block)];
  if (check_)
    check_->enter(fmt::format("{} of {}, micro-batch {}", step.work == Work::forward ? "the forward" : "the backward",
                              layers.units().front().name, step.micro_batch));
  return layers;
}

void StageRunner::forward(const ScheduleStep& step, const MicroBatch& batch) {
  Tensor hidden = link_->complete_receive(step);
  for (auto block = static_cast<int>(blocks_of(step).begin); block < blocks_of(step).end; ++block) {
    const ModelBlock& layers = enter(block, step);
    const TimedSpan span(SpanKind::block, context_.on.stream, block_span(layers, "forward", step));
    const BlockViews weights = take_weights(block);
    hidden = layers.forward(context_, weights, batch, std::move(hidden), state(block, step));
    return_weights(block);
    keep_losses(step, state(block, step).get());
    if (!trains_) state(block, step).reset();
  }
  link_->initiate_send(step, std::move(hidden));
}

void StageRunner::keep_losses(const ScheduleStep& step, const BlockState* state) {
  const auto keep = [&](ConstView loss_sum, std::int64_t kind) {
    if (loss_sum.absent()) return;
    const View kept = losses_.view().rows(kind, kind + 1).reshape({std::ssize(states_)});
    context_.ops->copy(context_.on, loss_sum, kept.rows(step.micro_batch, step.micro_batch + 1));
  };
  if (const auto* head = dynamic_cast<const HeadState*>(state)) keep(head->loss_sum, 0);
  if (const auto* head = dynamic_cast<const PredictionHeadState*>(state)) keep(head->prediction.loss_sum, 1);
}

void StageRunner::backward_input(const ScheduleStep& step, const MicroBatch& batch, bool with_weights) {
  Tensor gradient = link_->complete_receive(step);
  for (auto block = static_cast<int>(blocks_of(step).end) - 1; block >= blocks_of(step).begin; --block) {
    const ModelBlock& layers = enter(block, step);
    const TimedSpan span(SpanKind::block, context_.on.stream, block_span(layers, "backward", step));
    const BlockViews weights = layers.backward_reads_weights() ? take_weights(block) : BlockViews();
    gradient = layers.backward_input(context_, weights, batch, *state(block, step), std::move(gradient));
    if (layers.backward_reads_weights()) return_weights(block);
    if (with_weights) add_weight_gradients(block, step, batch);
  }
  link_->initiate_send(step, std::move(gradient));
}

void StageRunner::backward_weight(const ScheduleStep& step, const MicroBatch& batch) {
  for (auto block = static_cast<int>(blocks_of(step).end) - 1; block >= blocks_of(step).begin; --block)
    add_weight_gradients(block, step, batch);
}

void StageRunner::add_weight_gradients(int block, const ScheduleStep& step, const MicroBatch& batch) {
  const ModelBlock& layers = enter(block, step);
  const TimedSpan span(SpanKind::block, context_.on.stream, block_span(layers, "weight gradients", step));
  const BlockViews gradients = sharding_->gradients(block);
  LayerContext context = context_;
  context.gradients_begin = sharding_->gradients_begin(block);
  context.dense_gradients_begin = sharding_->dense_gradients_begin(block);
  layers.backward_weight(context, batch, *state(block, step), gradients);
  state(block, step).reset();
  const bool last = step.micro_batch + 1 == std::ssize(states_);
  if (last || reduction_ == Reduction::every_micro_batch) sharding_->reduce(block);
}

}  // namespace moesaic
