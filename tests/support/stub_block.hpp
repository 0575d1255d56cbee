#pragma once
/// A block of a model that computes nothing.

#include <functional>
#include <string>

#include "moesaic/layers/block.hpp"

namespace moesaic {

/// Has the units it is given and reports "forward" or "backward" when it is asked to compute.
class StubBlock : public ModelBlock {
 public:
  using Report = std::function<void(const std::string&)>;
  explicit StubBlock(
      std::vector<UnitSpec> units, Report report = [](const std::string&) {})
      : units_(std::move(units)), report_(std::move(report)) {}

  const std::vector<UnitSpec>& units() const override { return units_; }
  Tensor forward(const LayerContext&, const BlockViews&, const MicroBatch&, Tensor hidden,
                 std::unique_ptr<BlockState>& state) const override {
    report_("forward");
    state = std::make_unique<BlockState>();
    return hidden;
  }
  Tensor backward_input(const LayerContext&, const BlockViews&, const MicroBatch&, BlockState&,
                        Tensor output_gradient) const override {
    report_("backward");
    return output_gradient;
  }
  void backward_weight(const LayerContext&, const MicroBatch&, BlockState&, const BlockViews&) const override {}

 private:
  std::vector<UnitSpec> units_;
  Report report_;
};

}  // namespace moesaic
