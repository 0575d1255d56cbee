#pragma once
/// From host tokens to what layers read.

#include <vector>

#include "moesaic/data/batch.hpp"
#include "moesaic/layers/micro_batch.hpp"

namespace moesaic {

/// The batch as a micro-batch, factors left at 1; it must outlive the views.
MicroBatch view_of(const HostBatch& batch);
std::vector<MicroBatch> views_of(const std::vector<HostBatch>& batches);

}  // namespace moesaic
