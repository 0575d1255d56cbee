#include "moesaic/train/micro_batches.hpp"

#include <array>
#include <utility>

#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace {

/// The arrays of a batch, in the order in which a copy holds them.
using Arrays = std::array<std::pair<const std::vector<std::int32_t>*, ConstView MicroBatch::*>, 7>;

Arrays arrays_of(const HostBatch& batch) {
  return {{{&batch.ids, &MicroBatch::ids},
           {&batch.labels, &MicroBatch::labels},
           {&batch.positions, &MicroBatch::positions},
           {&batch.documents, &MicroBatch::documents},
           {&batch.key_documents, &MicroBatch::key_documents},
           {&batch.next_ids, &MicroBatch::next_ids},
           {&batch.next_labels, &MicroBatch::next_labels}}};
}

/// One message instead of many.
std::vector<std::int32_t> packed(const Arrays& arrays) {
  std::vector<std::int32_t> all;
  for (const auto& [values, _] : arrays) all.insert(all.end(), values->begin(), values->end());
  return all;
}

/// Documents are rows of sequences; absent where a batch has none.
void shape_documents(MicroBatch& view, const HostBatch& batch) {
  view.documents = batch.documents.empty() ? ConstView() : view.documents.reshape({batch.sequences, batch.length});
  view.key_documents =
      batch.key_documents.empty() ? ConstView() : view.key_documents.reshape({batch.sequences, view.sequence_length()});
}

}  // namespace

MicroBatches::MicroBatches(const std::vector<HostBatch>& batches, const OperatorContext& on) {
  for (const HostBatch& batch : batches) views_.push_back(place(batch, on));
}

MicroBatch MicroBatches::place(const HostBatch& batch, const OperatorContext& on) {
  MicroBatch view;
  view.sequences = batch.sequences;
  view.length = batch.length;
  view.parts = batch.parts;
  view.predicts = batch.predicts;
  view.divisible = batch.divisible;
  const Arrays arrays = arrays_of(batch);
  if (on.stream.device == DeviceKind::cpu) {
    for (const auto& [values, member] : arrays) view.*member = host_view(values->data(), {std::ssize(*values)});
  } else {
    const std::vector<std::int32_t> all = packed(arrays);
    const Tensor& copy = storage_.emplace_back(on.arena->tensor(DType::i32, {std::ssize(all)}, Label::batch));
    upload(on.stream, host_view(all.data(), {std::ssize(all)}), copy);
    std::int64_t at = 0;
    for (const auto& [values, member] : arrays) {
      view.*member = copy.view().rows(at, at + std::ssize(*values));
      at += std::ssize(*values);
    }
  }
  shape_documents(view, batch);
  return view;
}

}  // namespace moesaic
