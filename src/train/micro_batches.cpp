#include "moesaic/train/micro_batches.hpp"

namespace moesaic {

MicroBatch view_of(const HostBatch& batch) {
  const std::int64_t tokens = batch.sequences * batch.length;
  MicroBatch view;
  view.sequences = batch.sequences;
  view.length = batch.length;
  view.ids = host_view(batch.ids.data(), {tokens});
  view.labels = host_view(batch.labels.data(), {tokens});
  view.positions = host_view(batch.positions.data(), {tokens});
  if (!batch.documents.empty()) view.documents = host_view(batch.documents.data(), {batch.sequences, batch.length});
  view.parts = batch.parts;
  if (!batch.key_documents.empty())
    view.key_documents = host_view(batch.key_documents.data(), {batch.sequences, view.sequence_length()});
  return view;
}

std::vector<MicroBatch> views_of(const std::vector<HostBatch>& batches) {
  std::vector<MicroBatch> views;
  for (const HostBatch& batch : batches) views.push_back(view_of(batch));
  return views;
}

}  // namespace moesaic
