#pragma once
/// What layer tests share: a context on the host, a micro-batch, parameters with their gradients.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moesaic/layers/context.hpp"
#include "moesaic/layers/micro_batch.hpp"
#include "moesaic/layers/parameter.hpp"
#include "support/finite_difference.hpp"
#include "support/host_tensor.hpp"
#include "support/random.hpp"

namespace moesaic {

/// One rank's memory and operators; f64 for finite differences.
struct LayerFixture {
  explicit LayerFixture(DType type = DType::f64)
      : ctx{.ops = &operators(DeviceKind::cpu), .on = {.stream = host_stream, .arena = &arena}, .type = type} {}

  /// Everything that forward and backward took has come back.
  void expect_memory_returned() const {
    EXPECT_EQ(arena.used(Label::activations), 0);
    EXPECT_EQ(arena.used(Label::workspace), 0);
    EXPECT_GT(arena.peak(Label::activations), 0);
  }

  Arena arena{host_memory()};
  LayerContext ctx;
};

/// A micro-batch and its memory: random ids and labels, positions from 0 in each sequence, one document a sequence.
struct TestBatch {
  TestBatch(std::int64_t sequences, std::int64_t length, std::int64_t vocabulary = 11, std::uint32_t seed = 5)
      : ids(DType::i32, {sequences * length}), labels(DType::i32, {sequences * length}),
        positions(DType::i32, {sequences * length}), documents(DType::i32, {sequences, length}) {
    fill_random_integers(ids, seed, 0, vocabulary - 1);
    fill_random_integers(labels, seed + 1, -1, vocabulary - 1);
    for (std::int64_t t = 0; t < sequences * length; ++t) set_element(positions, t, static_cast<double>(t % length));
    batch.sequences = sequences;
    batch.length = length;
    batch.ids = ids.view();
    batch.labels = labels.view();
    batch.positions = positions.view();
  }

  /// From now on tokens see their own document only: `values` a token.
  void set_documents(const std::vector<double>& values) {
    assign(documents, values);
    batch.documents = documents.view();
  }

  HostTensor ids, labels, positions, documents;
  MicroBatch batch;
};

/// Random values for declared parameters (near 1 for those that start as ones), and gradients that start as zeros.
class TestParameters {
 public:
  TestParameters(std::vector<ParameterSpec> specs, DType type, std::uint32_t seed, double scale = 0.5)
      : specs_(std::move(specs)) {
    for (const ParameterSpec& spec : specs_) {
      weights_.push_back(random_tensor(type, spec.shape, seed++, scale));
      gradients_.emplace_back(type, spec.shape);
      if (spec.initialisation != Initialisation::ones) continue;
      for (std::int64_t i = 0; i < spec.shape.size(); ++i)
        set_element(weights_.back(), i, element(weights_.back(), i) + 1);
    }
  }

  ParameterViews weights() { return views_of(weights_); }
  ParameterViews gradients() { return views_of(gradients_); }
  const std::vector<ParameterSpec>& specs() const { return specs_; }

  /// Gradients as layers find them when they begin: NaN where a product is to replace them, else zero.
  void begin_gradients() {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      if (specs_[i].product)
        poison(gradients_[i]);
      else
        assign(gradients_[i], std::vector<double>(static_cast<std::size_t>(specs_[i].shape.size()), 0.0));
    }
  }

  /// Each gradient against central differences of `loss`.
  template <class Loss> void expect_gradients(const Loss& loss) {
    for (std::size_t i = 0; i < specs_.size(); ++i) {
      EXPECT_LT(max_gradient_error(loss, weights_[i], gradients_[i]), 1e-6) << specs_[i].name;
    }
  }

 private:
  static ParameterViews views_of(std::vector<HostTensor>& tensors) {
    ParameterViews views;
    for (HostTensor& tensor : tensors) views.push_back(tensor);
    return views;
  }

  std::vector<ParameterSpec> specs_;
  std::vector<HostTensor> weights_, gradients_;
};

/// A tensor of the arena with the values of `values`.
inline Tensor activation_of(const LayerContext& ctx, ConstView values) {
  Tensor tensor = ctx.activation(values.extents());
  assign(tensor, elements(values));
  return tensor;
}

inline HostTensor copy_of(ConstView values) { return make_tensor(values.dtype(), values.extents(), elements(values)); }

}  // namespace moesaic
