// DeepSeek-V3 with one depth of multi-token prediction: the first batch against a reference of its own in double precision,
// what the model is made of, and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/models/cost.hpp"
#include "support/golden.hpp"
#include "support/local_model.hpp"

namespace moesaic {
namespace {

constexpr double weight = 0.3;

GoldenCase golden() { return GoldenCase("multi_token_prediction"); }

ModelSpec spec_of(const HfConfig& config) { return model_spec(config, {.prediction = true}); }

/// |values - expected| / |expected|, both as one long vector.
double relative_distance(const std::vector<double>& values, const std::vector<double>& expected) {
  if (values.size() != expected.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(values[i] - expected[i], 2);
    norm += std::pow(expected[i], 2);
  }
  return std::sqrt(difference / norm);
}

/// Of each row of labels [rows, length] the next labels.
std::vector<std::int32_t> shifted(const std::vector<std::int32_t>& labels, std::int64_t length) {
  std::vector<std::int32_t> next(labels.begin() + 1, labels.end());
  next.push_back(-1);
  for (std::size_t end = static_cast<std::size_t>(length); end <= next.size(); end += static_cast<std::size_t>(length))
    next[end - 1] = -1;
  return next;
}

class FirstBatch : public ::testing::TestWithParam<DType> {
 protected:
  FirstBatch()
      : spec(spec_of(HfConfig::load(reference.config()))), local(spec, GetParam(), length()),
        batch(reference.shape("input_ids")[0], reference.tokens("input_ids"), reference.tokens("labels")) {
    batch.predict(shifted(reference.tokens("labels"), length()), weight);
    local.load(SafetensorsFolder(reference.folder()));
    pass = local.forward(*batch);
  }
  std::int64_t length() const { return reference.shape("input_ids")[1]; }

  void expect_near(const std::vector<double>& values, const std::string& name) const {
    EXPECT_LT(relative_distance(values, reference.numbers(name)), tolerance()) << name;
  }
  /// Tensors of the reference are stored in f32.
  static double tolerance() { return GetParam() == DType::f64 ? 2e-7 : 1e-5; }

  GoldenCase reference = golden();
  ModelSpec spec;
  LocalModel local;
  LocalBatch batch;
  LocalModel::Pass pass;
};

TEST_P(FirstBatch, HiddenStatesAndLosses) {
  for (std::size_t i = 0; i < 2; ++i) expect_near(elements(pass.outputs[i]), fmt::format("hidden.{}", i));
  expect_near(elements(pass.head().normalised), "hidden.2");
  expect_near(elements(pass.head().logits), "logits");
  expect_near({batch->loss_scale * element(pass.head().loss_sum, 0)}, "loss");
  expect_near(elements(pass.prediction().normalised), "prediction.hidden");
  expect_near(elements(pass.prediction().logits), "prediction.logits");
  expect_near({batch->prediction_scale / weight * element(pass.prediction().loss_sum, 0)}, "prediction.loss");
}

TEST_P(FirstBatch, AllGradients) {
  local.backward(*batch, pass);
  const SafetensorsFile file(reference.gradients());
  double squares = 0;
  std::size_t compared = 0;
  for (const HfPiece& piece : hf_pieces(spec)) {
    if (is_state(piece) || piece.copy) continue;
    const View gradient = local.gradient(piece.parameter);
    std::vector<double> values;
    for (std::int64_t i = 0; i < piece.shape.size(); ++i) values.push_back(element(gradient, place_in(piece, i)));
    EXPECT_LT(relative_distance(values, file.read<double>(piece.tensor)), tolerance()) << piece.tensor;
    for (double value : values) squares += value * value;
    ++compared;
  }
  EXPECT_EQ(compared, file.tensors().size());
  expect_near({std::sqrt(squares)}, "grad_norm");
}

INSTANTIATE_TEST_SUITE_P(OneRank, FirstBatch, ::testing::Values(DType::f32, DType::f64),
                         [](const auto& instance) { return std::string(name_of(instance.param)); });

/// The layers of a spec, without parameters.
std::int64_t parameters_of_layers(const ModelSpec& spec) {
  const LocalModel local(spec, DType::f32, 1);
  std::int64_t count = 0;
  for (const std::string& name : local.names()) count += local.value(name).size();
  return count;
}

TEST(MultiTokenPrediction, IsABlockOfTheHead) {
  const ModelSpec plain = model_spec(HfConfig::load(golden().config())),
                  predicts = spec_of(HfConfig::load(golden().config()));
  EXPECT_EQ(predicts.layers(), plain.layers());
  EXPECT_EQ(all_blocks(predicts).last, all_blocks(plain).last);
  EXPECT_EQ(predicts.moe_layers(), plain.moe_layers() + 1);
  LocalModel local(predicts, DType::f32, 1);
  std::vector<std::string> units;
  for (const UnitSpec& unit : local.model().blocks().back()->units()) units.push_back(unit.name);
  EXPECT_EQ(units,
            (std::vector<std::string>{"head", "blocks/2", "blocks/2/experts", "prediction", "prediction_table"}));
  EXPECT_EQ(local.model().account_layers(), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(predicts.total_parameters(), parameters_of_layers(predicts));
  EXPECT_EQ(plain.total_parameters(), parameters_of_layers(plain));
}

/// Of 64 tokens: the block 6 x (attention and experts) as in cost.hpp, 12 x 32^2 and once more 6 x 32 x 128.
TEST(MultiTokenPrediction, CostsAreThoseOfTheHead) {
  const auto config = HfConfig::load(golden().config());
  const auto plain = flops_per_token_by_block(model_spec(config), 64),
             predicts = flops_per_token_by_block(spec_of(config), 64);
  ASSERT_EQ(predicts.size(), plain.size());
  for (std::size_t i = 0; i + 1 < plain.size(); ++i) EXPECT_EQ(predicts[i], plain[i]);
  EXPECT_EQ(plain[3], 6 * 32 * 128);
  EXPECT_EQ(predicts[3], 2 * 6 * 32 * 128 + 12 * 32 * 32 + plain[2]);  // its block is like the last layer
}

/// Published: 11.5 billion parameters beside the shared table and head.
TEST(MultiTokenPrediction, CountsThePublicModels) {
  const auto config = HfConfig::load(MOESAIC_SOURCE_DIR "/inputs/models/deepseek-v3.json");
  const std::int64_t more = spec_of(config).total_parameters() - model_spec(config).total_parameters();
  EXPECT_NEAR(static_cast<double>(more), 11.5e9, 0.02 * 11.5e9);
}

TEST(MultiTokenPrediction, CopiesAreWrittenAndNeverRead) {
  std::vector<std::string> copies;
  for (const HfPiece& piece : hf_pieces(spec_of(HfConfig::load(golden().config()))))
    if (piece.copy) copies.push_back(piece.tensor + " " + piece.parameter);
  EXPECT_EQ(copies, (std::vector<std::string>{"model.layers.2.embed_tokens.weight embedding/weight",
                                              "model.layers.2.shared_head.head.weight head/weight"}));
}

TEST(MultiTokenPrediction, PiecesAreTheTensorsOfTheReferenceFile) {
  const SafetensorsFile file(golden().weights());
  std::size_t pieces = 0;
  for (const HfPiece& piece : hf_pieces(spec_of(HfConfig::load(golden().config())))) {
    EXPECT_EQ(file.find(piece.tensor).shape, shape_of(piece.shape)) << piece.tensor;
    ++pieces;
  }
  EXPECT_EQ(pieces, file.tensors().size());
}

std::string refusal(const char* case_name, const std::string& key, const std::string& value) {
  std::string text = HfConfig::load(GoldenCase(case_name).config()).source();
  const std::size_t at = text.find('"' + key + "\":");
  if (at != std::string::npos) text.replace(at, text.find_first_of(",\n", at) - at, '"' + key + "\": " + value);
  try {
    spec_of(HfConfig::parse(text, "config.json"));
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(MultiTokenPrediction, OtherDepthsAndFamiliesAreRefused) {
  const char* mine = "multi_token_prediction";
  EXPECT_EQ(refusal(mine, "num_nextn_predict_layers", "1"), "");
  EXPECT_NE(refusal(mine, "num_nextn_predict_layers", "0").find("'num_nextn_predict_layers' is 0"), std::string::npos);
  EXPECT_NE(refusal(mine, "num_nextn_predict_layers", "2").find("trains one depth"), std::string::npos);
  EXPECT_NE(refusal(mine, "tie_word_embeddings", "true").find("'tie_word_embeddings' is true"), std::string::npos);
  EXPECT_NE(refusal("qwen3_moe", "", "").find("model_type 'qwen3_moe'"), std::string::npos);
}

}  // namespace
}  // namespace moesaic
