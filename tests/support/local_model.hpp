#pragma once
/// A whole model on one rank in host memory: every unit in full, nothing gathered, nothing reduced.

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "moesaic/io/safetensors.hpp"
#include "moesaic/layers/prediction_head.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/models/model.hpp"
#include "support/host_tensor.hpp"
#include "support/random.hpp"

namespace moesaic {

/// Tokens of whole sequences, and the batch that reads them.
class LocalBatch {
 public:
  /// ids, labels: [sequences, length], flat. Labels of -1 do not count; the loss is the mean over the others.
  LocalBatch(std::int64_t sequences, std::vector<std::int32_t> ids, std::vector<std::int32_t> labels)
      : ids_(std::move(ids)), labels_(std::move(labels)), positions_(ids_.size()) {
    const auto tokens = static_cast<std::int64_t>(ids_.size());
    batch_.sequences = sequences;
    batch_.length = tokens / sequences;
    for (std::int64_t t = 0; t < tokens; ++t) {
      positions_[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t % batch_.length);
    }
    batch_.ids = host_view(std::as_const(ids_).data(), {tokens});
    batch_.labels = host_view(std::as_const(labels_).data(), {tokens});
    batch_.positions = host_view(std::as_const(positions_).data(), {tokens});
    const auto ignored = std::count(labels_.begin(), labels_.end(), -1);
    batch_.loss_scale = 1 / static_cast<double>(tokens - ignored);
  }
  LocalBatch(const LocalBatch&) = delete;

  /// From now on the micro-batch predicts: labels are the next ids, next_labels those one token further on.
  void predict(std::vector<std::int32_t> next_labels, double weight) {
    next_labels_ = std::move(next_labels);
    batch_.predicts = true;
    batch_.next_ids = batch_.labels;
    batch_.next_labels = host_view(std::as_const(next_labels_).data(), {std::ssize(next_labels_)});
    const auto ignored = std::count(next_labels_.begin(), next_labels_.end(), -1);
    batch_.prediction_scale = weight / static_cast<double>(std::ssize(next_labels_) - ignored);
  }

  MicroBatch& operator*() { return batch_; }
  MicroBatch* operator->() { return &batch_; }

 private:
  std::vector<std::int32_t> ids_, labels_, positions_, next_labels_;
  MicroBatch batch_;
};

/// Where element `i` of a Hugging Face tensor lies in its parameter, both flat.
inline std::int64_t place_in(const HfPiece& piece, std::int64_t i) {
  if (piece.strides.empty()) return piece.offset + i;
  std::int64_t place = piece.offset;
  for (int d = piece.shape.rank() - 1; d >= 0; --d) {
    place += i % piece.shape[d] * piece.strides[static_cast<std::size_t>(d)];
    i /= piece.shape[d];
  }
  return place;
}

class LocalModel {
 public:
  /// What a forward leaves.
  struct Pass {
    std::vector<std::unique_ptr<BlockState>> states;
    std::vector<HostTensor> outputs;  ///< copies of what each block but the head returned, [tokens, hidden]

    const HeadState& head() const { return static_cast<const HeadState&>(*states.back()); }
    /// Of a model that predicts.
    const OutputState& prediction() const { return static_cast<const PredictionHeadState&>(*states.back()).prediction; }
  };

  /// `ops` must outlive the model. Values are not set, gradients are zero.
  LocalModel(const ModelSpec& spec, DType type, std::int64_t positions,
             const Operators& ops = operators(DeviceKind::cpu))
      : spec_(spec), context_{&ops, {host_stream, &arena_}, type},
        model_(spec, positions, sequences_, experts_, nullptr, context_) {
    for (const auto& block : model_.blocks()) {
      weights_.emplace_back();
      block_gradients_.emplace_back();
      for (const UnitSpec& unit : block->units()) add_unit(unit);
    }
    for (std::size_t i = 0; i < model_.accounts().size(); ++i) {
      const View bias = model_.accounts()[i].selection_bias;
      if (!bias.absent()) biases_.emplace(selection_bias_name(model_.account_layers()[i]), bias);
    }
  }
  LocalModel(const LocalModel&) = delete;

  Model& model() { return model_; }
  const LayerContext& context() const { return context_; }
  /// Of the parameters, in the order of units.
  const std::vector<std::string>& names() const { return names_; }
  /// Of a parameter, or a selection bias under its name in checkpoints.
  View value(const std::string& name) const {
    const auto bias = biases_.find(name);
    return bias == biases_.end() ? values_.at(name).view() : bias->second;
  }
  /// Of a tied table both accumulators together, once backward has run.
  View gradient(const std::string& name) const { return gradients_.at(name); }

  void load(const SafetensorsFolder& folder) {
    for (const HfPiece& piece : hf_pieces(spec_)) {
      if (piece.copy) continue;
      std::vector<double> values(static_cast<std::size_t>(piece.shape.size()));
      folder.read_slice(piece.tensor, 0, piece.shape.size(), values.data());
      for (std::int64_t i = 0; i < piece.shape.size(); ++i)
        set_element(value(piece.parameter), place_in(piece, i), values[static_cast<std::size_t>(i)]);
    }
  }

  /// Uniform values in [-scale, scale), norms around 1.
  void randomise(std::uint32_t seed, double scale) {
    for (const std::string& name : names_) {
      const View values = value(name);
      fill_random(values, seed++, scale);
      if (values.rank() > 1) continue;
      for (std::int64_t i = 0; i < values.size(); ++i) set_element(values, i, 1 + element(values, i));
    }
  }

  Pass forward(const MicroBatch& batch) const {
    Pass pass;
    Tensor hidden;
    for (std::size_t b = 0; b < weights_.size(); ++b) {
      std::unique_ptr<BlockState> state;
      hidden = model_.blocks()[b]->forward(context_, weights_[b], batch, std::move(hidden), state);
      pass.states.push_back(std::move(state));
      if (hidden.absent()) continue;
      pass.outputs.emplace_back(context_.type, hidden.view().extents());
      context_.ops->copy(context_.on, hidden, pass.outputs.back());
    }
    return pass;
  }

  /// Adds to the gradients.
  void backward(const MicroBatch& batch, Pass& pass) const {
    Tensor gradient;
    for (std::size_t b = weights_.size(); b-- > 0;) {
      const ModelBlock& block = *model_.blocks()[b];
      gradient = block.backward_input(context_, weights_[b], batch, *pass.states[b], std::move(gradient));
      block.backward_weight(context_, batch, *pass.states[b], block_gradients_[b]);
    }
    for (const auto& [name, tied] : tied_gradients_) context_.ops->accumulate(context_.on, tied, gradients_.at(name));
  }

 private:
  void add_unit(const UnitSpec& unit) {
    ParameterViews weights, gradients;
    for (const ParameterSpec& parameter : unit.parameters) {
      const bool tied = !unit.tied_to.empty();
      Tensor gradient = arena_.tensor(context_.accumulator(), parameter.shape, Label::gradients);
      context_.ops->fill(context_.on, 0, gradient);
      gradients.push_back(gradient);
      if (tied) {
        tied_gradients_.emplace_back(parameter.name, std::move(gradient));
      } else {
        names_.push_back(parameter.name);
        values_.emplace(parameter.name, arena_.tensor(context_.type, parameter.shape, Label::parameters));
        gradients_.emplace(parameter.name, std::move(gradient));
      }
      weights.push_back(values_.at(parameter.name));
    }
    weights_.back().push_back(std::move(weights));
    block_gradients_.back().push_back(std::move(gradients));
  }

  ModelSpec spec_;
  Arena arena_{host_memory()};
  LocalSequences sequences_;
  LocalExperts experts_;
  LayerContext context_;
  Model model_;
  std::vector<std::string> names_;
  std::map<std::string, Tensor> values_, gradients_;
  std::map<std::string, View> biases_;
  std::vector<std::pair<std::string, Tensor>> tied_gradients_;
  std::vector<BlockViews> weights_, block_gradients_;
};

}  // namespace moesaic
