#include "moesaic/layers/expert_exchange.hpp"

#include <utility>

namespace moesaic {
namespace {

/// Hands back what it was handed: the partial sums of the only rank are the sums.
class LocalPassage : public ExpertPassage {
 public:
  LocalPassage(ConstView indices, ConstView weights)
      : input_{.rows = {}, .indices = indices, .weights = weights, .slots = indices.size()} {}

  void initiate_dispatch(ConstView hidden) override { input_.rows = hidden; }
  const ExpertInput& complete_dispatch() override { return input_; }

  void initiate_combine(Tensor partial) override { combined_ = std::move(partial); }
  Tensor complete_combine() override { return std::move(combined_); }

  void initiate_combine_backward(ConstView output_gradient) override { output_gradient_ = output_gradient; }
  ConstView complete_combine_backward() override { return output_gradient_; }

  void initiate_dispatch_backward(Tensor row_gradient, Tensor weights_gradient) override {
    gradients_ = {.hidden = std::move(row_gradient), .weights = std::move(weights_gradient)};
  }
  RoutedGradients complete_dispatch_backward() override { return std::move(gradients_); }

 private:
  ExpertInput input_;
  Tensor combined_;
  ConstView output_gradient_;
  RoutedGradients gradients_;
};

}  // namespace

std::unique_ptr<ExpertPassage> LocalExperts::begin(const LayerContext&, ConstView indices, ConstView weights,
                                                   std::int64_t) {
  return std::make_unique<LocalPassage>(indices, weights);
}

}  // namespace moesaic
