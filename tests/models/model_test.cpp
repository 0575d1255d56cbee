#include "moesaic/models/model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

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

ModelSpec golden_spec() { return model_spec(HfConfig::load(GoldenCase("qwen3_moe").config())); }

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
  for (const ModelSpec& spec : {mixed_spec(), golden_spec()}) {
    std::int64_t count = 0;
    const Layers layers(spec);
    for (const UnitSpec& unit : layers.model.units()) {
      if (!unit.tied_to.empty()) continue;
      for (const ParameterSpec& parameter : unit.parameters) count += parameter.shape.size();
    }
    EXPECT_EQ(spec.total_parameters(), count);
  }
}

TEST(Model, OnlyBiasBalanceKeepsABias) {
  ModelSpec spec = mixed_spec();
  EXPECT_TRUE(Layers(spec).model.accounts()[0].selection_bias.absent());
  for (BlockSpec& block : spec.blocks) block.moe.balance = Balance::bias;
  const Layers layers(spec);
  ASSERT_EQ(layers.model.accounts().size(), 2u);
  EXPECT_EQ(elements(layers.model.accounts()[1].selection_bias), std::vector<double>(4, 0.0));
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

/// Offsets and ends of the pieces of one parameter, in order.
std::vector<std::pair<std::int64_t, std::int64_t>> ranges_of(const std::vector<HfPiece>& pieces,
                                                             const std::string& parameter) {
  std::vector<std::pair<std::int64_t, std::int64_t>> ranges;
  for (const HfPiece& piece : pieces) {
    if (piece.parameter == parameter) ranges.emplace_back(piece.offset, piece.offset + piece.shape.size());
  }
  std::sort(ranges.begin(), ranges.end());
  return ranges;
}

TEST(HfPieces, CoverEveryParameterExactlyOnce) {
  for (const ModelSpec& spec : {mixed_spec(), golden_spec()}) {
    const std::vector<HfPiece> pieces = hf_pieces(spec);
    std::size_t used = 0;
    const Layers layers(spec);
    for (const UnitSpec& unit : layers.model.units()) {
      if (!unit.tied_to.empty()) continue;
      for (const ParameterSpec& parameter : unit.parameters) {
        std::int64_t at = 0;
        for (const auto& [begin, end] : ranges_of(pieces, parameter.name)) {
          EXPECT_EQ(begin, at) << parameter.name;
          at = end;
          ++used;
        }
        EXPECT_EQ(at, parameter.shape.size()) << parameter.name;
      }
    }
    EXPECT_EQ(used, pieces.size());  // none names a parameter that is not there
  }
}

TEST(HfPieces, AreTheTensorsOfTheReferenceFile) {
  const SafetensorsFile file(GoldenCase("qwen3_moe").weights());
  std::set<std::string> names;
  for (const HfPiece& piece : hf_pieces(golden_spec())) {
    EXPECT_TRUE(names.insert(piece.tensor).second) << piece.tensor;
    EXPECT_EQ(file.find(piece.tensor).shape, shape_of(piece.shape)) << piece.tensor;
  }
  EXPECT_EQ(names.size(), file.tensors().size());
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
