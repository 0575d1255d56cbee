#pragma once
/// A transformer block on one rank.

#include <memory>

#include "layers/layer_fixture.hpp"
#include "moesaic/layers/attention.hpp"
#include "moesaic/layers/dense.hpp"
#include "moesaic/layers/latent_attention.hpp"
#include "moesaic/layers/moe.hpp"
#include "moesaic/layers/transformer_block.hpp"

namespace moesaic {

inline std::unique_ptr<TransformerBlock> make_block(std::int64_t index, const AttentionSpec& attention,
                                                    const RotaryTable& table, SequenceExchange& sequences,
                                                    std::unique_ptr<FeedForward> feed_forward) {
  const std::string prefix = TransformerBlock::path(index) + "/attention";
  return std::make_unique<TransformerBlock>(index, attention.hidden, 1e-6, table,
                                            std::make_unique<Attention>(attention, prefix, sequences),
                                            std::move(feed_forward));
}

inline std::unique_ptr<TransformerBlock> make_dense_block(std::int64_t index, const AttentionSpec& attention,
                                                          std::int64_t width, const RotaryTable& table,
                                                          SequenceExchange& sequences) {
  const std::string prefix = TransformerBlock::path(index) + "/feed_forward";
  return make_block(index, attention, table, sequences,
                    std::make_unique<DenseFeedForward>(attention.hidden, width, prefix));
}

inline std::unique_ptr<TransformerBlock> make_sparse_block(std::int64_t index, const AttentionSpec& attention,
                                                           const MoeSpec& moe, const RotaryTable& table,
                                                           SequenceExchange& sequences, ExpertExchange& experts,
                                                           const MoeAccounts& accounts) {
  return make_block(index, attention, table, sequences,
                    std::make_unique<MoeLayer>(moe, TransformerBlock::path(index), experts, nullptr, accounts));
}

/// Grouped-query attention with a dense feed-forward or experts; latent attention with experts of which one is shared.
enum class BlockKind { dense, sparse, latent };

/// One block with its parameters. Positions: up to 16.
struct BlockRun {
  static constexpr std::int64_t hidden = 6, dense_width = 7;
  static constexpr AttentionSpec attention{.hidden = hidden, .heads = 4, .key_heads = 2, .width = 4, .head_norm = true};
  static constexpr MoeSpec moe{.hidden = hidden, .width = 3, .experts = 4, .top_k = 2, .balance = Balance::auxiliary};
  static constexpr LatentAttentionSpec latent_attention{.hidden = hidden,
                                                        .heads = 3,
                                                        .query_rank = 5,
                                                        .key_value_rank = 4,
                                                        .plain_width = 3,
                                                        .rotary_width = 4,
                                                        .value_width = 2,
                                                        .scale = 0.5};
  static MoeSpec latent_moe() {
    MoeSpec spec = moe;
    spec.scores = RouterScores::sigmoid;
    spec.groups = 2;
    spec.top_groups = 1;
    spec.scale = 2.5;
    spec.shared_width = 5;
    return spec;
  }

  explicit BlockRun(BlockKind kind, DType type = DType::f64)
      : fixture(type), table(fixture.arena, type, 16, 4, 100), load(DType::i64, {4}), auxiliary_loss(DType::f64, {1}) {
    if (kind == BlockKind::dense) block = make_dense_block(2, attention, dense_width, table, sequences);
    if (kind == BlockKind::sparse) block = make_sparse_block(2, attention, moe, table, sequences, local, accounts());
    if (kind == BlockKind::latent) {
      const std::string path = TransformerBlock::path(2);
      block = std::make_unique<TransformerBlock>(
          2, hidden, 1e-6, table, std::make_unique<LatentAttention>(latent_attention, path + "/attention", sequences),
          std::make_unique<MoeLayer>(latent_moe(), path, local, nullptr, accounts()));
    }
    std::uint32_t seed = 1000;
    for (const UnitSpec& unit : block->units()) units.emplace_back(unit.parameters, type, seed += 100);
  }

  MoeAccounts accounts() { return {{}, load, auxiliary_loss}; }

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
