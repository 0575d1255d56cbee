#include "moesaic/train/forward_pass.hpp"

#include "moesaic/layers/head.hpp"

namespace moesaic {
namespace {

double sum_of_losses(const BlockState& state) {
  return *dynamic_cast<const HeadState&>(state).loss_sum.view().data<double>();
}

}  // namespace

MicroBatch view_of(const HostBatch& batch) {
  const std::int64_t tokens = batch.sequences * batch.length;
  MicroBatch view;
  view.sequences = batch.sequences;
  view.length = batch.length;
  view.ids = host_view(batch.ids.data(), {tokens});
  view.labels = host_view(batch.labels.data(), {tokens});
  view.positions = host_view(batch.positions.data(), {tokens});
  if (!batch.documents.empty()) view.documents = host_view(batch.documents.data(), {batch.sequences, batch.length});
  return view;
}

double ForwardPass::run(const MicroBatch& batch, std::vector<std::unique_ptr<BlockState>>& states) {
  states.resize(model_->blocks().size());
  Tensor hidden;
  for (int block = 0; block <= last_block(); ++block) {
    const int next = block < last_block() ? block + 1 : block - 1;
    hidden = forward(block, next, batch, std::move(hidden), states[static_cast<std::size_t>(block)]);
    if (block < last_block()) sharding_->release(block);
  }
  return sum_of_losses(*states.back());
}

LossSum ForwardPass::evaluate(std::int64_t micro_batches, const std::function<HostBatch(std::int64_t)>& batch) {
  LossSum mine;
  for (std::int64_t m = 0; m < micro_batches; ++m) {
    const HostBatch host = batch(m);
    Tensor hidden;
    std::unique_ptr<BlockState> state;
    for (int block = 0; block <= last_block(); ++block) {
      hidden = forward(block, block < last_block() ? block + 1 : -1, view_of(host), std::move(hidden), state);
      sharding_->release(block);
    }
    mine.sum += sum_of_losses(*state);
    mine.labels += host.counted;
  }
  data_ranks_->all_reduce(host_view(&mine.sum, {1}));
  data_ranks_->all_reduce(host_view(&mine.labels, {1}));
  return mine;
}

Tensor ForwardPass::forward(int block, int next, const MicroBatch& batch, Tensor hidden,
                            std::unique_ptr<BlockState>& state) {
  const BlockViews weights = sharding_->gather(block, next);
  return model_->blocks()[static_cast<std::size_t>(block)]->forward(context_, weights, batch, std::move(hidden), state);
}

}  // namespace moesaic
