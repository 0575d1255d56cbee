#include "moesaic/layers/expert_rounds.hpp"

#include <algorithm>

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {

ParkedExperts::ParkedExperts(const LayerContext& ctx, const ExpertInput& input, ExpertState& state)
    : slots_(input.slots) {
  begin_park(ctx, input.rows, input_[0]);
  begin_park(ctx, input.indices, input_[1]);
  begin_park(ctx, input.weights, input_[2]);
  for (std::size_t i = 0; i < state_.size(); ++i) begin_park(ctx, *state.all()[i], state_[i]);
  wait_for(ctx.on.stream);
}

void ParkedExperts::begin_park(const LayerContext& ctx, ConstView values, Parked& parked) {
  parked = {values.dtype(), values.extents(), std::vector<std::byte>(static_cast<std::size_t>(values.bytes()))};
  begin_download(ctx.on.stream, values, View(parked.bytes.data(), parked.type, DeviceKind::cpu, parked.extents));
}

Tensor ParkedExperts::fetch(const LayerContext& ctx, const Parked& parked) {
  Tensor values = ctx.activation(parked.type, parked.extents);
  upload(ctx.on.stream, ConstView(parked.bytes.data(), parked.type, DeviceKind::cpu, parked.extents), values);
  return values;
}

void ParkedExperts::backward_weight(const LayerContext& ctx, const ExpertViews& gradients) const {
  const Tensor rows = fetch(ctx, input_[0]), indices = fetch(ctx, input_[1]), weights = fetch(ctx, input_[2]);
  ExpertState state;
  for (std::size_t i = 0; i < state_.size(); ++i) *state.all()[i] = fetch(ctx, state_[i]);
  experts_backward_weight(ctx, {.rows = rows, .indices = indices, .weights = weights, .slots = slots_}, state,
                          gradients);
}

ExpertRounds::ExpertRounds(ExpertExchange& exchange, const ExpertOverflow& overflow, ConstView indices,
                           ConstView weights, std::int64_t experts)
    : exchange_(&exchange), indices_(indices), weights_(weights), experts_(experts) {
  const std::int64_t tokens = indices.extent(0);
  for (std::int64_t round = 0; round < overflow.rounds; ++round)
    ranges_.push_back({std::min(round * overflow.range, tokens), std::min((round + 1) * overflow.range, tokens)});
}

std::unique_ptr<ExpertPassage> ExpertRounds::dispatch(const LayerContext& ctx, ConstView hidden, Block range) const {
  const auto of_range = [range](ConstView all) { return all.rows(range.begin, range.end); };
  auto passage = exchange_->begin(ctx, of_range(indices_), of_range(weights_), experts_);
  MOESAIC_ENSURE(!passage->overflow());
  passage->initiate_dispatch(of_range(hidden));
  return passage;
}

Tensor ExpertRounds::forward(const LayerContext& ctx, const ExpertViews& weights, const SwigluOptions& swiglu,
                             ConstView hidden) const {
  Tensor output = ctx.activation(hidden.extents());
  if (ranges_.empty()) ctx.ops->fill(ctx.on, 0, output);
  for (const Block& range : ranges_) {
    const auto passage = dispatch(ctx, hidden, range);
    ExpertState state;
    passage->initiate_combine(experts_forward(ctx, weights, passage->complete_dispatch(), state, swiglu));
    copy_within(ctx.on.stream, passage->complete_combine(), output.view().rows(range.begin, range.end));
  }
  return output;
}

RoutedGradients ExpertRounds::backward_input(const LayerContext& ctx, const ExpertViews& weights,
                                             const SwigluOptions& swiglu, ConstView hidden, ConstView output_gradient) {
  RoutedGradients all{.hidden = ctx.activation(hidden.extents()),
                      .weights = ctx.activation(weights_.dtype(), weights_.extents())};
  if (ranges_.empty())
    for (const Tensor* gradient : {&all.hidden, &all.weights}) ctx.ops->fill(ctx.on, 0, *gradient);
  for (const auto& [begin, end] : ranges_) {
    const auto passage = dispatch(ctx, hidden, {begin, end});
    const ExpertInput& input = passage->complete_dispatch();
    ExpertState state;
    experts_recompute(ctx, weights, input, state, swiglu);
    passage->initiate_combine_backward(output_gradient.rows(begin, end));
    ExpertGradients gradients =
        experts_backward_input(ctx, weights, input, passage->complete_combine_backward(), state, swiglu);
    passage->initiate_dispatch_backward(std::move(gradients.rows), std::move(gradients.weights));
    const RoutedGradients part = passage->complete_dispatch_backward();
    copy_within(ctx.on.stream, part.hidden, all.hidden.view().rows(begin, end));
    copy_within(ctx.on.stream, part.weights, all.weights.view().rows(begin, end));
    parked_.emplace_back(ctx, input, state);
  }
  return all;
}

void ExpertRounds::backward_weight(const LayerContext& ctx, const ExpertViews& gradients) {
  if (ranges_.empty() && ctx.gradients_begin)
    for (const View& product : {gradients.gate_up, gradients.down}) ctx.ops->fill(ctx.on, 0, product);
  LayerContext later = ctx;
  for (const ParkedExperts& round : parked_) {
    round.backward_weight(later, gradients);
    later.gradients_begin = false;
  }
  parked_.clear();
}

}  // namespace moesaic
