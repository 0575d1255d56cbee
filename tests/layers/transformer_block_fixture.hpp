#pragma once
/// A transformer block on one rank.

#include <memory>

#include "layers/layer_fixture.hpp"
#include "moesaic/layers/transformer_block.hpp"

namespace moesaic {

/// One block, dense or sparse, with its parameters. Positions: up to 16.
struct BlockRun {
  static constexpr std::int64_t hidden = 6, dense_width = 7;
  static constexpr AttentionSpec attention{.hidden = hidden, .heads = 4, .key_heads = 2, .width = 4, .head_norm = true};
  static constexpr MoeSpec moe{.hidden = hidden, .width = 3, .experts = 4, .top_k = 2, .balance = Balance::auxiliary};

  explicit BlockRun(bool sparse, DType type = DType::f64)
      : fixture(type), table(fixture.arena, type, 16, 4, 100), load(DType::i64, {4}), auxiliary_loss(DType::f64, {1}) {
    if (sparse) {
      block = std::make_unique<TransformerBlock>(2, attention, moe, 1e-6, table, sequences, local, nullptr,
                                                 MoeAccounts{{}, load, auxiliary_loss});
    } else {
      block = std::make_unique<TransformerBlock>(2, attention, dense_width, 1e-6, table, sequences);
    }
    std::uint32_t seed = 1000;
    for (const UnitSpec& unit : block->units()) units.emplace_back(unit.parameters, type, seed += 100);
  }

  BlockViews weights() {
    BlockViews views;
    for (TestParameters& unit : units) views.push_back(unit.weights());
    return views;
  }
  BlockViews gradients() {
    BlockViews views;
    for (TestParameters& unit : units) views.push_back(unit.gradients());
    return views;
  }

  LayerFixture fixture;
  RotaryTable table;
  LocalSequences sequences;
  LocalExperts local;
  HostTensor load, auxiliary_loss;
  std::unique_ptr<TransformerBlock> block;
  std::vector<TestParameters> units;
};

}  // namespace moesaic
