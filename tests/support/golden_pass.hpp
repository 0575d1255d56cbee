#pragma once
/// The first batch of a reference case on one rank, and what must be the reference's.

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "moesaic/models/pooled_balance.hpp"
#include "support/golden.hpp"
#include "support/local_model.hpp"

namespace moesaic {

/// What router_forward wrote, call by call.
inline std::vector<std::pair<HostTensor, HostTensor>> recorded;

inline HostTensor copy_of(ConstView view) { return make_tensor(view.dtype(), view.extents(), elements(view)); }

inline void recording_router(const OperatorContext& on, const RouterOptions& options, ConstView logits, ConstView bias,
                             View probabilities, View indices, View weights, View counts, View sums) {
  operators(DeviceKind::cpu).router_forward(on, options, logits, bias, probabilities, indices, weights, counts, sums);
  recorded.emplace_back(copy_of(probabilities), copy_of(indices));
}

inline Operators recording_operators() {
  Operators ops = operators(DeviceKind::cpu);
  ops.router_forward = recording_router;
  return ops;
}

/// |values - expected| / |expected|, both as one long vector.
inline double relative_distance(const std::vector<double>& values, const std::vector<double>& expected) {
  if (values.size() != expected.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (values[i] - expected[i]) * (values[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

/// The first batch of a case, forward and backward. In f64 too the distance is not zero: inside norms, rotary angles and
/// the router's softmax Transformers computes in f32 whatever the model's type.
class GoldenPass {
 public:
  GoldenPass(const std::string& name, DType type)
      : golden_(name), spec_(model_spec(HfConfig::load(golden_.config()))),
        local_(spec_, type, golden_.shape("input_ids")[1], ops_),
        batch_(golden_.shape("input_ids")[0], golden_.tokens("input_ids"), golden_.tokens("labels")),
        tolerance_(type == DType::f64 ? 2e-6 : 1e-5) {
    recorded.clear();
    local_.load(SafetensorsFolder(golden_.folder()));
    pass_ = local_.forward(*batch_);
  }

  void check_hidden_states() const {
    const std::size_t layers = spec_.blocks.size();
    for (std::size_t i = 0; i < layers; ++i) {
      const std::string name = fmt::format("hidden.{}", i);
      EXPECT_LT(relative_distance(elements(pass_.outputs[i]), golden_.numbers(name)), tolerance_) << name;
    }
    const std::string last = fmt::format("hidden.{}", layers);  // after the final norm
    EXPECT_LT(relative_distance(elements(pass_.head().normalised), golden_.numbers(last)), tolerance_);
    EXPECT_LT(relative_distance(elements(pass_.head().logits), golden_.numbers("logits")), tolerance_);
  }

  void check_losses() const {
    const double loss = mean_scale() * element(pass_.head().loss_sum.view(), 0);
    EXPECT_LT(relative_distance({loss}, golden_.numbers("loss")), tolerance_);
    if (!golden_.reference().contains("aux_loss")) return;  // of softmax routers
    std::vector<RecordedRouting> routing;
    for (const auto& [probabilities, indices] : recorded) routing.push_back({probabilities, indices});
    ASSERT_EQ(routing.size(), static_cast<std::size_t>(spec_.moe_layers()));
    EXPECT_LT(relative_distance({pooled_auxiliary_loss(routing)}, golden_.numbers("aux_loss")), tolerance_);
  }

  void check_gradients() {
    local_.backward(*batch_, pass_);
    const SafetensorsFile file(golden_.gradients());
    double squares = 0;
    for (const HfPiece& piece : hf_pieces(spec_)) {
      if (is_state(piece)) continue;  // no gradient
      const View gradient = local_.gradient(piece.parameter);
      std::vector<double> values;
      for (std::int64_t i = 0; i < piece.shape.size(); ++i) values.push_back(element(gradient, place_in(piece, i)));
      EXPECT_LT(relative_distance(values, file.read<double>(piece.tensor)), tolerance_) << piece.tensor;
      for (double value : values) squares += value * value;
    }
    EXPECT_LT(relative_distance({std::sqrt(squares)}, golden_.numbers("grad_norm")), tolerance_);
  }

 private:
  double mean_scale() const { return 1 / static_cast<double>(golden_.integers("labels").size()); }

  GoldenCase golden_;
  ModelSpec spec_;
  Operators ops_ = recording_operators();
  LocalModel local_;
  LocalBatch batch_;
  double tolerance_;
  LocalModel::Pass pass_;
};

}  // namespace moesaic
