#pragma once
/// A picture of the loss: training and validation over steps, as SVG.

#include <filesystem>
#include <string>

#include "moesaic/train/loss_series.hpp"

namespace moesaic {

/// An SVG of 960 x 540 that needs no other file: axes with round ticks and labels (step; loss in nats a token), the
/// training loss as a thin line with its running mean over it, validation losses as marked points, a legend. Lines of
/// more than 2000 points are thinned, keeping their extremes. The vertical axis leaves out the outermost half percent
/// of the training losses: single spikes run out of the frame.
std::string loss_curve_svg(const LossSeries& training, const LossSeries& validation);

/// Reads metrics.jsonl at `metrics` and writes loss_curve_svg to `picture`, replacing it at once. Steps without a
/// number are left out. RunError when it cannot be written.
void draw_loss_curve(const std::filesystem::path& metrics, const std::filesystem::path& picture);

}  // namespace moesaic
