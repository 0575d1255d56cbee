#include "moesaic/models/model.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "moesaic/models/family.hpp"
#include "support/finite_difference.hpp"
#include "support/golden.hpp"
#include "support/local_model.hpp"

namespace moesaic {
namespace {

/// Three blocks, the second of them dense, with a tied head; balanced by auxiliary loss.
ModelSpec mixed_spec() {
  ModelSpec spec;
  spec.family = "qwen3_moe";
  spec.hidden = 8;
  spec.vocabulary = 11;
  spec.tied_head = true;
  BlockSpec sparse;
  sparse.attention = {8, 2, 1, 4, true, 1e-6};
  sparse.moe.hidden = 8;
  sparse.moe.width = 6;
  sparse.moe.experts = 4;
  sparse.moe.top_k = 2;
  sparse.moe.balance = Balance::auxiliary;
  BlockSpec dense;
  dense.attention = sparse.attention;
  dense.dense_width = 12;
  spec.blocks = {sparse, dense, sparse};
  return spec;
}

ModelSpec golden_spec(const char* name) { return model_spec(HfConfig::load(GoldenCase(name).config())); }

/// The layers of a spec, without parameters.
struct Layers {
  explicit Layers(const ModelSpec& spec) : Layers(spec, all_blocks(spec)) {}
  Layers(const ModelSpec& spec, BlockRange range)
      : context{&operators(DeviceKind::cpu), {host_stream, &arena}, DType::f32},
        model(spec, 16, sequences, experts, nullptr, context, {range}) {}

  Arena arena{host_memory()};
  LocalSequences sequences;
  LocalExperts experts;
  LayerContext context;
  Model model;
};

/// Of the blocks that are here.
std::vector<std::string> unit_names(const Model& model) {
  std::vector<std::string> names;
  for (const auto& block : model.blocks())
    for (const UnitSpec& unit : block->units()) names.push_back(unit.name);
  return names;
}

TEST(Model, UnitsInOrder) {
  const std::vector<std::string> expected = {"embedding",        "blocks/0", "blocks/0/experts", "blocks/1", "blocks/2",
                                             "blocks/2/experts", "head",     "head_table"};
  EXPECT_EQ(unit_names(Layers(mixed_spec()).model), expected);
}

TEST(Model, ARangeHoldsTheSameBlocks) {
  const ModelSpec spec = mixed_spec();
  const std::vector<std::string> middle = {"blocks/1", "blocks/2", "blocks/2/experts"};
  const Layers stage(spec, {2, 4});
  EXPECT_EQ(unit_names(stage.model), middle);
  EXPECT_EQ(stage.model.accounts().size(), 1u);
  EXPECT_EQ(stage.model.account_layers(), std::vector<std::int64_t>{1});  // the second of the model's MoE layers
  EXPECT_EQ(stage.model.moe_layers(), 2);
  EXPECT_EQ(stage.model.units().size(), 8u);  // the whole model's
  const std::vector<std::string> last = {"head", "head_table"};
  EXPECT_EQ(unit_names(Layers(spec, {4, 5}).model), last);
  EXPECT_TRUE(Layers(spec, {2, 3}).model.accounts().empty());
}

TEST(Model, SpecAndLayersCountTheSameParameters) {
  std::vector<ModelSpec> specs{mixed_spec()};
  for (const char* name : golden_cases) specs.push_back(golden_spec(name));
  for (const ModelSpec& spec : specs) {
    std::int64_t count = 0;
    const Layers layers(spec);
    for (const UnitSpec& unit : layers.model.units()) {
      if (!unit.tied_to.empty()) continue;
      for (const ParameterSpec& parameter : unit.parameters) count += parameter.shape.size();
    }
    EXPECT_EQ(spec.total_parameters(), count) << spec.family;
  }
}

TEST(Model, BiasBalanceAndSomeFamiliesKeepABias) {
  ModelSpec spec = mixed_spec();
  EXPECT_TRUE(Layers(spec).model.accounts()[0].selection_bias.absent());
  for (BlockSpec& block : spec.blocks) block.moe.balance = Balance::bias;
  const Layers layers(spec);
  ASSERT_EQ(layers.model.accounts().size(), 2u);
  EXPECT_EQ(elements(layers.model.accounts()[1].selection_bias), std::vector<double>(4, 0.0));
  const Layers deepseek(golden_spec("deepseek_v3"));
  ASSERT_EQ(deepseek.model.accounts().size(), 2u);
  EXPECT_EQ(elements(deepseek.model.accounts()[0].selection_bias), std::vector<double>(8, 0.0));
}

TEST(Model, AccountsCountEverySlotUntilZeroed) {
  LocalModel local(mixed_spec(), DType::f32, 8);
  local.randomise(1, 0.5);
  LocalBatch batch(1, {1, 2, 3, 4, 5}, {2, 3, 4, 5, 6});
  batch->balance_weight = 1;
  local.forward(*batch);
  for (const MoeAccounts& accounts : local.model().accounts()) {
    double slots = 0;
    for (double load : elements(accounts.load)) slots += load;
    EXPECT_EQ(slots, 10);  // 5 tokens, top 2
    EXPECT_GT(element(accounts.auxiliary_loss, 0), 0);
  }
  local.model().zero_accounts();
  for (const MoeAccounts& accounts : local.model().accounts()) {
    EXPECT_EQ(elements(accounts.load), std::vector<double>(4, 0.0));
    EXPECT_EQ(element(accounts.auxiliary_loss, 0), 0);
  }
}

/// How many elements of pieces lie at each element of each parameter and selection bias.
std::map<std::string, std::vector<int>> covered_by(const std::vector<HfPiece>& pieces) {
  std::map<std::string, std::vector<int>> covered;
  for (const HfPiece& piece : pieces) {
    std::vector<int>& counts = covered[piece.parameter];
    for (std::int64_t i = 0; i < piece.shape.size(); ++i) {
      const auto place = static_cast<std::size_t>(place_in(piece, i));
      if (counts.size() <= place) counts.resize(place + 1);
      ++counts[place];
    }
  }
  return covered;
}

TEST(HfPieces, CoverEveryParameterExactlyOnce) {
  std::vector<ModelSpec> specs{mixed_spec()};
  for (const char* name : golden_cases) specs.push_back(golden_spec(name));
  for (const ModelSpec& spec : specs) {
    auto covered = covered_by(hf_pieces(spec));
    const auto expect_once = [&](const std::string& name, std::int64_t size) {
      EXPECT_EQ(covered[name], std::vector<int>(static_cast<std::size_t>(size), 1)) << spec.family << " " << name;
      covered.erase(name);
    };
    const Layers layers(spec);
    for (const UnitSpec& unit : layers.model.units()) {
      if (!unit.tied_to.empty()) continue;
      for (const ParameterSpec& parameter : unit.parameters) expect_once(parameter.name, parameter.shape.size());
    }
    for (std::int64_t layer = 0; layer < layers.model.moe_layers(); ++layer)
      if (layers.model.biased_experts(layer) > 0)
        expect_once(selection_bias_name(layer), layers.model.biased_experts(layer));
    EXPECT_TRUE(covered.empty()) << spec.family << ": none names what is not there";
  }
}

TEST(HfPieces, AreTheTensorsOfTheReferenceFile) {
  for (const char* name : golden_cases) {
    const SafetensorsFile file(GoldenCase(name).weights());
    std::set<std::string> names;
    for (const HfPiece& piece : hf_pieces(golden_spec(name))) {
      EXPECT_TRUE(names.insert(piece.tensor).second) << piece.tensor;
      if (!piece.strides.empty()) continue;  // its dimensions may be split
      EXPECT_EQ(file.find(piece.tensor).shape, shape_of(piece.shape)) << piece.tensor;
    }
    EXPECT_EQ(names.size(), file.tensors().size()) << name;
  }
}

TEST(WholeModel, GradientsAreThoseOfTheLoss) {
  LocalModel local(mixed_spec(), DType::f64, 8);
  local.randomise(3, 0.5);
  LocalBatch batch(2, {1, 4, 9, 0, 10, 4, 4, 7, 2, 5}, {4, 9, 0, 10, 3, 4, -1, 2, 5, 8});
  batch->balance_gradient = 0.05;
  batch->balance_weight = 1;
  const auto loss = [&] {
    local.model().zero_accounts();
    double total = batch->loss_scale * element(local.forward(*batch).head().loss_sum.view(), 0);
    for (const MoeAccounts& layer : local.model().accounts()) {
      total += batch->balance_gradient * element(layer.auxiliary_loss, 0);
    }
    return total;
  };
  LocalModel::Pass pass = local.forward(*batch);
  local.backward(*batch, pass);
  for (const std::string& name : local.names()) {
    EXPECT_LT(max_gradient_error(loss, local.value(name), local.gradient(name)), 1e-6) << name;
  }
}

}  // namespace
}  // namespace moesaic
