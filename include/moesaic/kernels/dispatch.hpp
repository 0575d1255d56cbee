#pragma once
/// What travels with a token to the ranks that hold its experts. Rank r holds experts [r * n, (r + 1) * n).

#include "moesaic/kernels/context.hpp"

namespace moesaic {

/// destinations (i32 [tokens, d]): the distinct indices[t,j] / experts_per_rank of each token, ascending, then -1.
/// indices: i32 [tokens, top_k]; d >= min(top_k, number of ranks).
using DispatchDestinations = void(const OperatorContext&, ConstView indices, std::int64_t experts_per_rank,
                                  View destinations);

/// For each slot (one token on its way to one rank; slots are in rank order, rank r has [offsets[r], offsets[r+1])):
/// slot_indices (i32 [slots, top_k]) = the token's experts counted from that rank's first, -1 for experts of other ranks;
/// slot_weights [slots, top_k] = the weights of these, 0 elsewhere.
using DispatchRouting = void(const OperatorContext&, ConstView indices, ConstView weights, ConstView slot_token,
                             ConstView offsets, std::int64_t experts_per_rank, View slot_indices, View slot_weights);

/// The way back of the weights' gradients: weights_gradient[t,j] = slot_weights_gradient[s,j] where s is the slot of
/// token t at the rank of indices[t,j]. token_slot, destinations: [tokens, d] as dispatched.
using DispatchWeightsGradient = void(const OperatorContext&, ConstView indices, ConstView destinations,
                                     ConstView token_slot, std::int64_t experts_per_rank,
                                     ConstView slot_weights_gradient, View weights_gradient);

namespace reference {
DispatchDestinations dispatch_destinations;
DispatchRouting dispatch_routing;
DispatchWeightsGradient dispatch_weights_gradient;
}  // namespace reference

namespace cuda {
DispatchDestinations dispatch_destinations;
DispatchRouting dispatch_routing;
DispatchWeightsGradient dispatch_weights_gradient;
}  // namespace cuda

}  // namespace moesaic
