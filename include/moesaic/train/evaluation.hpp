#pragma once
/// Loss without training.

#include <functional>

#include "moesaic/train/assembly.hpp"
#include "moesaic/train/run.hpp"

namespace moesaic {

/// Mean cross entropy over the counted labels of all rows of `data`, in nats a token; `progress` is called now and then.
/// Collective.
double mean_loss(
    Assembly& assembly, const Dataset& data, const ProcessGrid& grid, int rank, const RunSettings& settings,
    const std::function<void()>& progress = [] {});

/// Evaluates the newest checkpoint of the run directory, else model.init, and prints one JSON line; `progress` as above.
/// Collective.
Status evaluate(const RunSettings& settings, const Inputs& inputs, const MpiSession& session,
                const std::function<void()>& progress);

}  // namespace moesaic
