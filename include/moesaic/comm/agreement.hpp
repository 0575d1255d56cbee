#pragma once
/// One outcome for all ranks: an error on one becomes the same error on all.

#include <functional>
#include <string>

#include "moesaic/base/contract.hpp"
#include "moesaic/comm/communicator.hpp"

namespace moesaic {

/// Errors that every rank of a group threw together: one of them speaks, and all may leave in order.
struct AgreedInputError : InputError {
  using InputError::InputError;
};
struct AgreedRunError : RunError {
  using RunError::RunError;
};

/// Runs `work`, which must be local (no collectives), on every rank. When it throws on any rank, every rank throws with
/// the message of the lowest such rank: AgreedInputError for its InputError, else AgreedRunError. Collective.
void together(Communicator& ranks, const std::function<void()>& work);

/// The text of rank `root`, on every rank. Collective.
std::string broadcast_text(Communicator& ranks, std::string text, int root);

}  // namespace moesaic
