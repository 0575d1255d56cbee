#include "moesaic/parallel/expert_parallel.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "dispatch_counts.hpp"
#include "moesaic/grid/block.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

std::int64_t total(const Counts& counts) { return std::accumulate(counts.begin(), counts.end(), std::int64_t{0}); }

/// Of every `stride` offsets, what lies between the first and the next ones' first.
Counts differences(std::span<const std::int64_t> offsets, std::int64_t stride) {
  Counts counts;
  for (auto begin = offsets.begin(); begin + stride < offsets.end(); begin += stride)
    counts.push_back(begin[stride] - begin[0]);
  return counts;
}

/// Share of the ranks that hold any of top_k experts, chosen at random.
double share_of_ranks(std::int64_t top_k, int ranks) {
  return 1 - std::pow(1 - 1.0 / ranks, static_cast<double>(top_k));
}

class Passage : public ExpertPassage {
  using Capacity = ReceiveBound::Capacity;

 public:
  Passage(const LayerContext& context, Communicator& ranks, ConstView indices, ConstView weights, std::int64_t experts,
          const ReceiveBound& bound, ExpertLoad load)
      : context_(context), ranks_(&ranks), indices_(indices), weights_(weights),
        experts_per_rank_(experts / ranks.size()) {
    plan();
    const Capacity capacity = bound.capacity(indices.extent(1), experts_per_rank_, ranks.size());
    exchange_counts(bound.factor > 0 ? std::optional(capacity) : std::nullopt);
    if (load != ExpertLoad::counted) assume_counts(load, capacity);
  }

  std::optional<ExpertOverflow> overflow() const override { return overflow_; }

  void initiate_dispatch(ConstView hidden) override {
    width_ = hidden.extent(1);
    exchange_routing();
    send_ = gather(hidden);
    rows_ = buffer({arriving(), width_});
    pending_.push_back(ranks_->initiate_all_to_all(send_, leaving_, rows_, arriving_));
  }

  const ExpertInput& complete_dispatch() override {
    complete();
    input_ = {rows_, slot_indices_, slot_weights_, arriving_slots_};
    return input_;
  }

  void initiate_combine(Tensor partial) override { send_back(std::move(partial)); }

  Tensor complete_combine() override { return receive_back(Label::activations); }

  void initiate_combine_backward(ConstView output_gradient) override {
    send_ = gather(output_gradient);
    gradient_rows_ = buffer({arriving(), width_});
    pending_.push_back(ranks_->initiate_all_to_all(send_, leaving_, gradient_rows_, arriving_));
  }

  ConstView complete_combine_backward() override {
    complete();
    return gradient_rows_;
  }

  void initiate_dispatch_backward(Tensor row_gradient, Tensor weights_gradient) override {
    gradient_rows_.reset();
    weights_sent_ = std::move(weights_gradient);
    weights_returned_ = buffer(context_.accumulator(), {leaving(), indices_.extent(1)});
    pending_.push_back(ranks_->initiate_all_to_all(weights_sent_, arriving_, weights_returned_, leaving_));
    send_back(std::move(row_gradient));
  }

  RoutedGradients complete_dispatch_backward() override {
    RoutedGradients gradients;
    gradients.hidden = receive_back(Label::activations);
    gradients.weights = context_.activation(context_.accumulator(), weights_.extents());
    context_.ops->dispatch_weights_gradient(context_.on, indices_, destinations_, token_slot_, experts_per_rank_,
                                            weights_returned_, gradients.weights);
    weights_sent_.reset();
    weights_returned_.reset();
    return gradients;
  }

 private:
  Tensor buffer(DType type, Extents extents) const { return context_.on.arena->tensor(type, extents, Label::exchange); }
  Tensor buffer(Extents extents) const { return buffer(context_.type, extents); }
  std::int64_t num_experts() const { return experts_per_rank_ * ranks_->size(); }
  View row_offsets() const { return offsets_.view().rows(0, ranks_->size() + 1); }
  std::int64_t leaving() const { return total(leaving_); }
  std::int64_t arriving() const { return total(arriving_); }

  /// Which rows leave for which rank.
  void plan() {
    const std::int64_t tokens = indices_.extent(0);
    const std::int64_t fan_out = std::min<std::int64_t>(indices_.extent(1), ranks_->size());
    destinations_ = buffer(DType::i32, {tokens, fan_out});
    context_.ops->dispatch_destinations(context_.on, indices_, experts_per_rank_, destinations_);
    offsets_ = buffer(DType::i64, {ranks_->size() + 1 + num_experts() + 1});
    slot_token_ = buffer(DType::i32, {tokens * fan_out});
    token_slot_ = buffer(DType::i32, {tokens, fan_out});
    context_.ops->sort_by_key(context_.on, destinations_, row_offsets(), slot_token_, token_slot_);
  }

  /// How many rows arrive from each rank and how many slots they fill: what the host waits for, once.
  void exchange_counts(const std::optional<Capacity>& capacity) {
    count_slots();
    Counts offsets(static_cast<std::size_t>(offsets_.view().size()));
    download(context_.on.stream, offsets_, host_view(offsets.data(), {std::ssize(offsets)}));
    const std::span<const std::int64_t> all(offsets);
    const auto ranks = static_cast<std::size_t>(ranks_->size());
    const DispatchCounts counts(*ranks_, indices_.extent(0), differences(all.first(ranks + 1), 1),
                                differences(all.subspan(ranks + 1), experts_per_rank_));
    leaving_ = counts.leaving();
    arriving_ = counts.arriving();
    arriving_slots_ = counts.slots();
    if (capacity) overflow_ = counts.overflow(*capacity, std::min(indices_.extent(1), experts_per_rank_));
  }

  /// Where each expert's slots would begin if this rank's tokens were sorted by expert.
  void count_slots() const {
    const View offsets = offsets_.view().rows(ranks_->size() + 1, offsets_.view().size());
    const Tensor slot_token = context_.workspace(DType::i32, {indices_.size()});
    const Tensor token_slot = context_.workspace(DType::i32, indices_.extents());
    context_.ops->sort_by_key(context_.on, indices_, offsets, slot_token, token_slot);
  }

  void assume_counts(ExpertLoad load, const Capacity& capacity) {
    const std::int64_t ranks = ranks_->size(), tokens = indices_.extent(0), top_k = indices_.extent(1);
    leaving_.assign(static_cast<std::size_t>(ranks), even_dispatch_rows(tokens, top_k, ranks_->size()));
    arriving_ = leaving_;
    arriving_slots_ = indices_.size();
    if (load == ExpertLoad::even) return;
    const std::int64_t rows = std::min(capacity.rows, ranks * tokens);
    for (int r = 0; r < ranks_->size(); ++r)
      arriving_[static_cast<std::size_t>(r)] = block_of(rows, ranks_->size(), r).size();
    arriving_slots_ = std::min(capacity.slots, ranks * tokens * std::min(top_k, experts_per_rank_));
  }

  /// Expert indices and weights travel beside the rows.
  void exchange_routing() {
    const std::int64_t top_k = indices_.extent(1);
    routing_sent_[0] = buffer(DType::i32, {leaving(), top_k});
    routing_sent_[1] = buffer(context_.accumulator(), {leaving(), top_k});
    context_.ops->dispatch_routing(context_.on, indices_, weights_, leaving_tokens(), row_offsets(), experts_per_rank_,
                                   routing_sent_[0], routing_sent_[1]);
    slot_indices_ = buffer(DType::i32, {arriving(), top_k});
    slot_weights_ = buffer(context_.accumulator(), {arriving(), top_k});
    pending_.push_back(ranks_->initiate_all_to_all(routing_sent_[0], leaving_, slot_indices_, arriving_));
    pending_.push_back(ranks_->initiate_all_to_all(routing_sent_[1], leaving_, slot_weights_, arriving_));
  }

  ConstView leaving_tokens() const { return slot_token_.view().rows(0, leaving()); }

  Tensor gather(ConstView tokens) const {
    Tensor rows = buffer({leaving(), tokens.extent(1)});
    context_.ops->gather_rows(context_.on, tokens, leaving_tokens(), rows);
    return rows;
  }

  void send_back(Tensor rows) {
    send_ = std::move(rows);
    returned_ = buffer({leaving(), width_});
    pending_.push_back(ranks_->initiate_all_to_all(send_, arriving_, returned_, leaving_));
  }

  /// One row a token and rank has come back: add them in rank order.
  Tensor receive_back(Label label) {
    complete();
    Tensor sum = context_.on.arena->tensor(context_.type, {indices_.extent(0), width_}, label);
    context_.ops->combine_rows(context_.on, returned_, token_slot_, {}, sum);
    returned_.reset();
    return sum;
  }

  void complete() {
    for (Pending& pending : pending_) pending.complete();
    pending_.clear();
    send_.reset();
    for (Tensor& sent : routing_sent_) sent.reset();
  }

  LayerContext context_;
  Communicator* ranks_;
  ConstView indices_, weights_;
  std::int64_t experts_per_rank_;
  std::int64_t width_ = 0;
  Counts leaving_, arriving_;  ///< rows to and from each rank
  std::int64_t arriving_slots_ = 0;
  std::optional<ExpertOverflow> overflow_;
  Tensor destinations_, slot_token_, token_slot_;
  Tensor offsets_;  ///< where the rows for each rank begin, then the slots of each expert
  Tensor send_, returned_, routing_sent_[2], weights_sent_, weights_returned_;
  Tensor rows_, slot_indices_, slot_weights_, gradient_rows_;
  ExpertInput input_;
  std::vector<Pending> pending_;
};

}  // namespace

std::unique_ptr<ExpertPassage> ExpertParallel::begin(const LayerContext& context, ConstView indices, ConstView weights,
                                                     std::int64_t experts) {
  return std::make_unique<Passage>(context, *ranks_, indices, weights, experts, bound_, load_);
}

ReceiveBound::Capacity ReceiveBound::capacity(std::int64_t top_k, std::int64_t experts_per_rank, int ranks) const {
  const std::int64_t slots_of_a_row = std::min(top_k, experts_per_rank);
  const auto sent = factor * static_cast<double>(tokens * ranks);
  const std::int64_t rows = std::llround(sent * share_of_ranks(top_k, ranks));
  const std::int64_t slots = std::llround(sent * static_cast<double>(top_k) / ranks);
  return {std::max<std::int64_t>(rows, ranks), std::max(slots, ranks * slots_of_a_row)};
}

std::int64_t even_dispatch_rows(std::int64_t tokens, std::int64_t top_k, int ranks) {
  return std::llround(static_cast<double>(tokens) * share_of_ranks(top_k, ranks));
}

std::unique_ptr<ExpertExchange> make_expert_exchange(Communicator& expert_ranks, const ReceiveBound& bound,
                                                     ExpertLoad load) {
  if (expert_ranks.size() == 1) return std::make_unique<LocalExperts>();
  return std::make_unique<ExpertParallel>(expert_ranks, bound, load);
}

void SharedStatistics::sum(View counts, View probability_sums) {
  Pending first = ranks_->initiate_all_reduce(counts);
  ranks_->all_reduce(probability_sums);
  first.complete();
}

}  // namespace moesaic
