// inputs/models: the sizes of public models, counted from their configs, are the published ones.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "moesaic/models/family.hpp"

namespace moesaic {
namespace {

/// Published sizes, in billions; of some the active parameters are without the input embedding.
struct PublicModel {
  const char* file;
  double total;
  double active;
  bool embedding_is_active;
};

void PrintTo(const PublicModel& model, std::ostream* out) { *out << model.file; }

class PublicModels : public ::testing::TestWithParam<PublicModel> {};

TEST_P(PublicModels, AreAsLargeAsPublished) {
  const PublicModel& model = GetParam();
  const auto path = std::filesystem::path(MOESAIC_SOURCE_DIR) / "inputs/models" / model.file;
  const ModelSpec spec = model_spec(HfConfig::load(path));
  const double total = static_cast<double>(spec.total_parameters()) / 1e9;
  const double active = static_cast<double>(spec.active_parameters()) / 1e9;
  EXPECT_EQ(spec.counts_embedding, model.embedding_is_active);
  EXPECT_NEAR(total / model.total, 1, 0.02) << total << " billion in all";
  EXPECT_NEAR(active / model.active, 1, 0.02) << active << " billion a token";
}

TEST_P(PublicModels, EveryParameterHasItsTensors) {
  const auto path = std::filesystem::path(MOESAIC_SOURCE_DIR) / "inputs/models" / GetParam().file;
  const ModelSpec spec = model_spec(HfConfig::load(path));
  std::int64_t elements = 0;
  for (const HfPiece& piece : hf_pieces(spec))
    if (!is_state(piece)) elements += piece.shape.size();
  EXPECT_EQ(elements, spec.total_parameters());
}

INSTANTIATE_TEST_SUITE_P(All, PublicModels,
                         ::testing::Values(PublicModel{"qwen3-30b-a3b.json", 30.5, 3.3, true},
                                           PublicModel{"qwen3-235b-a22b.json", 235, 22, true},
                                           PublicModel{"deepseek-v3.json", 671, 37, false},
                                           PublicModel{"kimi-k2.json", 1030, 32, false},
                                           PublicModel{"gpt-oss-20b.json", 21, 3.6, false},
                                           PublicModel{"gpt-oss-120b.json", 117, 5.1, false},
                                           PublicModel{"mixtral-8x7b.json", 46.7, 12.9, true}));

}  // namespace
}  // namespace moesaic
