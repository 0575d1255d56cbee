#include "moesaic/kernels/dispatch.hpp"

#include "parallel.hpp"
#include "scalar_dispatch.hpp"

#include <algorithm>

namespace moesaic::reference {
namespace {

/// Inserts `rank` into the ascending list of `count` ranks unless it is there; returns the new count.
std::int64_t insert_rank(std::int32_t rank, std::int32_t* ranks, std::int64_t count) {
  std::int32_t* place = std::lower_bound(ranks, ranks + count, rank);
  if (place != ranks + count && *place == rank) return count;
  std::copy_backward(place, ranks + count, ranks + count + 1);
  *place = rank;
  return count + 1;
}

/// The slot in which `token` travels to `rank`, -1 when it does not.
std::int64_t slot_at_rank(ConstView destinations, ConstView token_slot, std::int64_t token, std::int64_t rank) {
  const std::int32_t* ranks = destinations.data<std::int32_t>() + token * destinations.stride(0);
  const std::int32_t* slots = token_slot.data<std::int32_t>() + token * token_slot.stride(0);
  for (std::int64_t column = 0; column < destinations.extent(1); ++column) {
    if (ranks[column] == rank) return slots[column];
  }
  return -1;
}

template <class T>
void route_slot(ConstView indices, ConstView weights, std::int64_t token, std::int64_t slot, std::int64_t first_expert,
                std::int64_t experts, View slot_indices, View slot_weights) {
  const std::int32_t* token_indices = indices.data<std::int32_t>() + token * indices.stride(0);
  const T* token_weights = weights.data<T>() + token * weights.stride(0);
  std::int32_t* out_indices = slot_indices.data<std::int32_t>() + slot * slot_indices.stride(0);
  T* out_weights = slot_weights.data<T>() + slot * slot_weights.stride(0);
  for (std::int64_t j = 0; j < indices.extent(1); ++j) {
    const std::int64_t expert = token_indices[j] - first_expert;
    const bool here = 0 <= expert && expert < experts;
    out_indices[j] = here ? static_cast<std::int32_t>(expert) : -1;
    out_weights[j] = here ? token_weights[j] : T(0);
  }
}

}  // namespace

void dispatch_destinations(const OperatorContext&, ConstView indices, std::int64_t experts_per_rank,
                           View destinations) {
  const std::int64_t tokens = indices.extent(0);
  parallel_for(tokens, indices.extent(1), [&](std::int64_t token) {
    const std::int32_t* experts = indices.data<std::int32_t>() + token * indices.stride(0);
    std::int32_t* ranks = destinations.data<std::int32_t>() + token * destinations.stride(0);
    std::int64_t count = 0;
    for (std::int64_t j = 0; j < indices.extent(1); ++j) {
      if (experts[j] >= 0) count = insert_rank(static_cast<std::int32_t>(experts[j] / experts_per_rank), ranks, count);
    }
    MOESAIC_ENSURE(count <= destinations.extent(1));
    std::fill(ranks + count, ranks + destinations.extent(1), -1);
  });
}

void dispatch_routing(const OperatorContext&, ConstView indices, ConstView weights, ConstView slot_token,
                      ConstView offsets, std::int64_t experts_per_rank, View slot_indices, View slot_weights) {
  with_scalar("dispatch_routing", weights.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t* first_slot = offsets.data<std::int64_t>();
    for (std::int64_t rank = 0; rank + 1 < offsets.extent(0); ++rank) {
      parallel_for(first_slot[rank + 1] - first_slot[rank], slot_indices.extent(1), [&](std::int64_t i) {
        const std::int64_t slot = first_slot[rank] + i;
        route_slot<T>(indices, weights, slot_token.data<std::int32_t>()[slot], slot, rank * experts_per_rank,
                      experts_per_rank, slot_indices, slot_weights);
      });
    }
  });
}

void dispatch_weights_gradient(const OperatorContext&, ConstView indices, ConstView destinations, ConstView token_slot,
                               std::int64_t experts_per_rank, ConstView slot_weights_gradient, View weights_gradient) {
  with_scalar("dispatch_weights_gradient", weights_gradient.dtype(), [&]<class T>(std::type_identity<T>) {
    const std::int64_t tokens = indices.extent(0);
    parallel_for(tokens, indices.extent(1), [&](std::int64_t token) {
      const std::int32_t* experts = indices.data<std::int32_t>() + token * indices.stride(0);
      T* gradient = weights_gradient.data<T>() + token * weights_gradient.stride(0);
      for (std::int64_t j = 0; j < indices.extent(1); ++j) {
        const std::int64_t slot =
            experts[j] < 0 ? -1 : slot_at_rank(destinations, token_slot, token, experts[j] / experts_per_rank);
        gradient[j] = slot < 0 ? T(0) : slot_weights_gradient.data<T>()[slot * slot_weights_gradient.stride(0) + j];
      }
    });
  });
}

}  // namespace moesaic::reference
