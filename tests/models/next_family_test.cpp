// How a family is added (docs/families.md): families/glm4_moe.cpp is one file of src/models/families more, in this test's
// table alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "moesaic/base/contract.hpp"
#include "support/golden_pass.hpp"

namespace moesaic {
namespace {

/// The spelling of the hub's GLM-4.5-Air, smaller.
constexpr std::string_view small_config =
    R"({"model_type": "glm4_moe", "hidden_size": 32, "vocab_size": 64, "max_position_embeddings": 128,
    "num_hidden_layers": 3, "first_k_dense_replace": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "attention_bias": true, "use_qk_norm": true, "partial_rotary_factor": 0.5,
    "intermediate_size": 48, "moe_intermediate_size": 16, "n_routed_experts": 8, "n_shared_experts": 1,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "norm_topk_prob": true, "routed_scaling_factor": 2.0,
    "rope_theta": 10000, "rope_scaling": null, "rms_norm_eps": 1e-05, "tie_word_embeddings": false})";

ModelSpec small_glm(std::string text = std::string(small_config)) {
  return model_spec(HfConfig::parse(text, "config.json"));
}

TEST(NextFamily, RefusesWhatIsNotBuilt) {
  std::string groups(small_config);
  groups.replace(groups.find("\"n_group\": 1"), 12, "\"n_group\": 2");
  try {
    small_glm(groups);
    FAIL() << "groups were ignored";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("'n_group' is 2"), std::string::npos) << error.what();
  }
}

/// Transformers 5 writes rope_parameters, and the part of a head that turns among them.
TEST(NextFamily, ReadsBothSpellingsOfPositions) {
  EXPECT_EQ(small_glm().blocks[0].attention.rotary_width, 4);
  std::string present(small_config);
  const std::string_view older = R"("rope_theta": 10000, "rope_scaling": null)";
  present.replace(present.find(older), older.size(),
                  R"("rope_parameters": {"rope_theta": 10000, "partial_rotary_factor": 0.25})");
  EXPECT_EQ(small_glm(present).blocks[0].attention.rotary_width, 2);
}

TEST(NextFamily, IsTransformers) {
  for (const DType type : {DType::f32, DType::f64}) {
    GoldenPass pass("glm4_moe", type);
    pass.check_hidden_states();
    pass.check_losses();
    pass.check_gradients();
  }
}

TEST(NextFamily, ItsTensorsCoverEveryParameterOnce) {
  const ModelSpec spec = small_glm();
  const LocalModel local(spec, DType::f64, 16);
  std::map<std::string, std::vector<int>> covered;
  for (const HfPiece& piece : hf_pieces(spec)) {
    std::vector<int>& places = covered[piece.parameter];
    places.resize(static_cast<std::size_t>(local.value(piece.parameter).size()));
    for (std::int64_t i = 0; i < piece.shape.size(); ++i) ++places[static_cast<std::size_t>(place_in(piece, i))];
  }
  for (const auto& [name, places] : covered)
    EXPECT_EQ(std::count(places.begin(), places.end(), 1), std::ssize(places)) << name;
  EXPECT_EQ(covered.size(), local.names().size() + 2) << "and two correction biases";
}

TEST(NextFamily, TrainsOneStep) {
  LocalModel local(small_glm(), DType::f64, 16);
  local.randomise(1, 0.5);
  LocalBatch batch(2, {1, 4, 9, 0, 10, 4, 4, 7, 2, 5}, {4, 9, 0, 10, 3, 4, 60, 2, 5, 8});
  LocalModel::Pass pass = local.forward(*batch);
  local.backward(*batch, pass);
  for (const std::string& name : local.names()) {
    double squares = 0;
    for (double value : elements(local.gradient(name))) squares += value * value;
    EXPECT_GT(squares, 0) << name;
  }
}

}  // namespace
}  // namespace moesaic
