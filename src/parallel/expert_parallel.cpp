#include "moesaic/parallel/expert_parallel.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

using Counts = std::vector<std::int64_t>;

std::int64_t total(const Counts& counts) { return std::accumulate(counts.begin(), counts.end(), std::int64_t{0}); }

class Passage : public ExpertPassage {
 public:
  Passage(const LayerContext& context, Communicator& ranks, ConstView indices, ConstView weights, std::int64_t experts,
          ExpertLoad load)
      : context_(context), ranks_(&ranks), indices_(indices), weights_(weights),
        experts_per_rank_(experts / ranks.size()) {
    plan(load);
  }

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
  std::int64_t leaving() const { return total(leaving_); }
  std::int64_t arriving() const { return total(arriving_); }

  /// Which rows leave for which rank, how many arrive from each and how many slots they fill: the one count vector that the
  /// host waits for.
  void plan(ExpertLoad load) {
    const std::int64_t tokens = indices_.extent(0);
    const std::int64_t fan_out = std::min<std::int64_t>(indices_.extent(1), ranks_->size());
    destinations_ = buffer(DType::i32, {tokens, fan_out});
    context_.ops->dispatch_destinations(context_.on, indices_, experts_per_rank_, destinations_);
    offsets_ = buffer(DType::i64, {ranks_->size() + 1});
    slot_token_ = buffer(DType::i32, {tokens * fan_out});
    token_slot_ = buffer(DType::i32, {tokens, fan_out});
    context_.ops->sort_by_key(context_.on, destinations_, offsets_, slot_token_, token_slot_);

    exchange_counts(on_host(offsets_), slots_by_expert());
    if (load == ExpertLoad::even) assume_even_counts();
  }

  void assume_even_counts() {
    const std::int64_t rows = even_dispatch_rows(indices_.extent(0), indices_.extent(1), ranks_->size());
    leaving_.assign(static_cast<std::size_t>(ranks_->size()), rows);
    arriving_ = leaving_;
    arriving_slots_ = indices_.size();
  }

  /// Of each expert, where its slots would begin if this rank's tokens were sorted by expert; i64 [experts + 1], host.
  Counts slots_by_expert() const {
    const std::int64_t experts = experts_per_rank_ * ranks_->size();
    const Tensor offsets = context_.workspace(DType::i64, {experts + 1});
    const Tensor slot_token = context_.workspace(DType::i32, {indices_.size()});
    const Tensor token_slot = context_.workspace(DType::i32, indices_.extents());
    context_.ops->sort_by_key(context_.on, indices_, offsets, slot_token, token_slot);
    return on_host(offsets);
  }

  Counts on_host(ConstView counts) const {
    Counts result(static_cast<std::size_t>(counts.size()));
    download(context_.on.stream, counts, host_view(result.data(), counts.extents()));
    return result;
  }

  /// For each rank a pair: rows, and slots.
  void exchange_counts(const Counts& row_offsets, const Counts& slot_offsets) {
    const std::int64_t ranks = ranks_->size();
    Counts sent, received(static_cast<std::size_t>(2 * ranks));
    for (std::int64_t r = 0; r < ranks; ++r) {
      const auto at = static_cast<std::size_t>(r), begin = static_cast<std::size_t>(r * experts_per_rank_);
      leaving_.push_back(row_offsets[at + 1] - row_offsets[at]);
      sent.push_back(leaving_.back());
      sent.push_back(slot_offsets[begin + static_cast<std::size_t>(experts_per_rank_)] - slot_offsets[begin]);
    }
    const Counts two(static_cast<std::size_t>(ranks), 2);
    ranks_->all_to_all(host_view(std::as_const(sent).data(), {2 * ranks}), two, host_view(received.data(), {2 * ranks}),
                       two);
    for (std::size_t i = 0; i < received.size(); i += 2) {
      arriving_.push_back(received[i]);
      arriving_slots_ += received[i + 1];
    }
  }

  /// Expert indices and weights travel beside the rows.
  void exchange_routing() {
    const std::int64_t top_k = indices_.extent(1);
    routing_sent_[0] = buffer(DType::i32, {leaving(), top_k});
    routing_sent_[1] = buffer(context_.accumulator(), {leaving(), top_k});
    context_.ops->dispatch_routing(context_.on, indices_, weights_, leaving_tokens(), offsets_, experts_per_rank_,
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
  Tensor destinations_, offsets_, slot_token_, token_slot_;
  Tensor send_, returned_, routing_sent_[2], weights_sent_, weights_returned_;
  Tensor rows_, slot_indices_, slot_weights_, gradient_rows_;
  ExpertInput input_;
  std::vector<Pending> pending_;
};

}  // namespace

std::unique_ptr<ExpertPassage> ExpertParallel::begin(const LayerContext& context, ConstView indices, ConstView weights,
                                                     std::int64_t experts) {
  return std::make_unique<Passage>(context, *ranks_, indices, weights, experts, load_);
}

std::int64_t even_dispatch_rows(std::int64_t tokens, std::int64_t top_k, int ranks) {
  const double missed = std::pow(1 - 1.0 / ranks, static_cast<double>(top_k));
  return std::llround(static_cast<double>(tokens) * (1 - missed));
}

std::unique_ptr<ExpertExchange> make_expert_exchange(Communicator& expert_ranks, ExpertLoad load) {
  if (expert_ranks.size() == 1) return std::make_unique<LocalExperts>();
  return std::make_unique<ExpertParallel>(expert_ranks, load);
}

void SharedStatistics::sum(View counts, View probability_sums) {
  Pending first = ranks_->initiate_all_reduce(counts);
  ranks_->all_reduce(probability_sums);
  first.complete();
}

}  // namespace moesaic
