// Ranks: 1 2 3 4 6
// The bytes that shards and pipeline stages send in one pass over the micro-batches are those of docs/parallelism.md, and
// those of `moesaic plan`.
// (Those of experts and of context ranks: tests/parallel.)
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/comm/mpi_session.hpp"
#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/models/model.hpp"
#include "moesaic/parallel/initialise.hpp"
#include "moesaic/parallel/stage_layout.hpp"
#include "moesaic/train/micro_batches.hpp"
#include "moesaic/train/rehearsal.hpp"
#include "moesaic/train/stage_runner.hpp"
#include "support/scratch_folder.hpp"

namespace moesaic {
namespace {

constexpr std::int64_t hidden = 16, tokens = 12, micro_batches = 3, element = 4;

/// Four layers, six blocks.
constexpr const char* small_config = R"({"model_type": "qwen3_moe", "hidden_size": 16, "vocab_size": 24,
  "num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "num_experts": 4,
  "num_experts_per_tok": 2, "moe_intermediate_size": 8, "max_position_embeddings": 64,
  "rope_theta": 10000})";

ModelSpec small_model() { return model_spec(HfConfig::parse(small_config, "small_config")); }

HostBatch small_batch() {
  HostBatch batch;
  batch.sequences = 1;
  batch.length = tokens;
  batch.counted = tokens;
  for (std::int32_t t = 0; t < tokens; ++t) {
    batch.ids.push_back(t);
    batch.labels.push_back(t + 1);
    batch.positions.push_back(t);
  }
  return batch;
}

struct Cut {
  int pipeline = 1;
  int chunks = 1;
  Reduction reduction = Reduction::every_micro_batch;
};

/// One rank's part of a pass, every message written down.
class RecordedPass {
 public:
  RecordedPass(const Cut& cut, int rank, int ranks)
      : cut_(cut), stages_(balance_stages(std::vector<double>(6, 1.0), cut.pipeline * cut.chunks)),
        grid_(ProcessGrid::make({.pipeline = cut.pipeline}, ranks)),
        communicators_(recorded()), place_{grid_.coordinate(rank, Axis::pipeline), cut.pipeline, cut.chunks},
        model_(spec_, tokens, sequences_, experts_, nullptr, context_, ranges()),
        sharding_(model_.blocks(), context_, grid_, rank, communicators_) {
    for (const auto& unit : sharding_.units()) initialise_random(*unit, 1, 0.02);
    sharding_.zero_gradients();
  }

  void run() {
    PipelineLink link(place_, context_, *communicators_.pipeline_down, *communicators_.pipeline_up, hidden);
    StageRunner runner(stage(), sharding_, link, context_);
    const auto kind = cut_.chunks == 1 ? ScheduleKind::one_f_one_b : ScheduleKind::interleaved;
    const std::vector<HostBatch> batches(micro_batches, small_batch());
    MicroBatches here(batches, context_.on);
    runner.run(make_schedule(kind, place_.stages, place_.stage, place_.chunks, micro_batches), here.views(),
               cut_.reduction, nullptr);
  }

  const PipelinePlace& place() const { return place_; }
  /// "3,3": blocks of each virtual stage.
  std::string layout() const {
    std::string text;
    for (const Block& stage : stages_) text += fmt::format("{}{}", text.empty() ? "" : ",", stage.size());
    return text;
  }
  int shards() const { return grid_.extent(Axis::shard); }

  /// Sent in operations of that name, on channels that begin so.
  std::int64_t sent(const std::string& channel, const std::string& name) const {
    std::int64_t bytes = 0;
    for (const RecordedEvent& event : recording_.events())
      if (event.kind == RecordedEvent::Kind::initiate && event.channel.starts_with(channel) && event.name == name)
        bytes += event.sent;
    return bytes;
  }

  /// W e of this rank's units (the expert axis is 1), without those of the named block.
  std::int64_t whole_bytes(const std::string& without = "") const {
    std::int64_t bytes = 0;
    for (const auto& unit : sharding_.units())
      if (unit->spec().name != without) bytes += unit->layout().whole() * element;
    return bytes;
  }
  std::int64_t bytes_of(const std::string& unit) const { return whole_bytes() - whole_bytes(unit); }

 private:
  Communicators recorded() {
    Communicators all = make_communicators(grid_, MPI_COMM_WORLD, arena_);
    const auto record = [&](std::unique_ptr<Communicator>& one, const char* channel) {
      one = std::make_unique<RecordingCommunicator>(std::move(one), channel, recording_);
    };
    record(all.dense_shard, "shard");
    record(all.expert_shard, "shard of experts");
    record(all.pipeline_down, "pipeline down");
    record(all.pipeline_up, "pipeline up");
    return all;
  }

  std::vector<BlockRange> ranges() const {
    std::vector<BlockRange> mine;
    for (auto i = static_cast<std::size_t>(place_.stage); i < stages_.size();
         i += static_cast<std::size_t>(cut_.pipeline))
      mine.push_back({stages_[i].begin, stages_[i].end});
    return mine;
  }

  StageBlocks stage() const {
    StageBlocks mine;
    for (const auto& block : model_.blocks()) mine.blocks.push_back(block.get());
    std::int64_t at = 0;
    for (const BlockRange& range : ranges()) {
      mine.chunks.push_back({at, at + range.last - range.first});
      at = mine.chunks.back().end;
    }
    return mine;
  }

  Cut cut_;
  ModelSpec spec_ = small_model();
  std::vector<Block> stages_;
  ProcessGrid grid_;
  Recording recording_;
  Arena arena_{host_memory()};
  LayerContext context_{&operators(DeviceKind::cpu), {host_stream, &arena_}, DType::f32};
  Communicators communicators_;
  PipelinePlace place_;
  LocalSequences sequences_;
  LocalExperts experts_;
  Model model_;
  FullySharded sharding_;
};

class ExchangeBytes : public ::testing::Test {
 protected:
  /// body(pass) for each number of stages that this job allows.
  template <class Body> void for_cuts(int chunks, Reduction reduction, const Body& body) const {
    for (int pipeline : {1, 2, 3}) {
      if (session.size() % pipeline != 0) continue;
      SCOPED_TRACE(fmt::format("pipeline {} chunks {}", pipeline, chunks));
      RecordedPass pass({pipeline, chunks, reduction}, session.rank(), session.size());
      pass.run();
      body(pass);
    }
  }
  MpiSession session;
};

/// reduce: (S - 1) / S x W e a time.
TEST_F(ExchangeBytes, GradientsAreReducedOnceAMicroBatchOrOnceAStep) {
  for (Reduction reduction : {Reduction::every_micro_batch, Reduction::last_micro_batch})
    for_cuts(1, reduction, [&](const RecordedPass& pass) {
      const std::int64_t times = reduction == Reduction::every_micro_batch ? micro_batches : 1;
      EXPECT_EQ(pass.sent("shard", "reduce_scatter"), times * (pass.shards() - 1) * pass.whole_bytes() / pass.shards());
    });
}

/// gather: (S - 1) / S x W e a use, twice a micro-batch; but once for the embedding and for what is used twice in a row.
TEST_F(ExchangeBytes, WeightsAreGatheredForForwardAndForBackward) {
  for_cuts(1, Reduction::every_micro_batch, [](const RecordedPass& pass) {
    const std::int64_t sent = pass.sent("shard", "all_gather");
    const auto share = [&](std::int64_t bytes) { return (pass.shards() - 1) * bytes / pass.shards(); };
    EXPECT_LE(sent, 2 * micro_batches * share(pass.whole_bytes()));
    if (pass.place().stages > 1) return;
    const std::int64_t ends = pass.bytes_of("embedding") + pass.bytes_of("head");
    EXPECT_EQ(sent, micro_batches * share(2 * pass.whole_bytes() - ends));
  });
}

/// 2 m v n H e, where the first virtual stage sends nothing up and the last nothing down.
TEST_F(ExchangeBytes, StagesSendTheRowsAtTheirBorders) {
  for (int chunks : {1, 2})
    for_cuts(chunks, Reduction::every_micro_batch, [&](const RecordedPass& pass) {
      const PipelinePlace& place = pass.place();
      if (place.stages == 1) return;
      const std::int64_t one_way = micro_batches * tokens * hidden * element;
      const bool first = place.stage == 0, last = place.stage + 1 == place.stages;
      EXPECT_EQ(pass.sent("pipeline down", "send"), one_way * (chunks - (last ? 1 : 0)));
      EXPECT_EQ(pass.sent("pipeline up", "send"), one_way * (chunks - (first ? 1 : 0)));
    });
}

/// What `moesaic plan` would say of the same pass.
Rehearsal rehearsed(const RecordedPass& pass, Reduction reduction, const MpiSession& session,
                    const std::filesystem::path& config) {
  RunSettings settings;
  settings.config = config;
  settings.device = DeviceChoice::cpu;
  settings.data.sequence = tokens;
  settings.steps = 1;
  settings.global_batch = micro_batches * session.size() / pass.place().stages;
  settings.grid.pipeline = pass.place().stages;
  settings.chunks = pass.place().chunks;
  settings.schedule = settings.chunks > 1 ? ScheduleKind::interleaved : ScheduleKind::one_f_one_b;
  settings.layout = pass.layout();
  settings.reduce_every_micro_batch = reduction == Reduction::every_micro_batch;
  return rehearse(settings, Decomposition(settings, session.size()), session.rank(), DeviceKind::cpu);
}

TEST_F(ExchangeBytes, AreThoseOfThePlan) {
  const ScratchFolder scratch("exchange_bytes");
  const std::filesystem::path config = scratch.path() / "config.json";
  if (ScratchFolder::first()) std::ofstream(config) << small_config;
  MPI_Barrier(MPI_COMM_WORLD);
  for (Reduction reduction : {Reduction::every_micro_batch, Reduction::last_micro_batch})
    for (int chunks : {1, 2})
      for_cuts(chunks, reduction, [&](const RecordedPass& pass) {
        auto sent = rehearsed(pass, reduction, session, config).sent;
        EXPECT_EQ(sent["dense_shard"] + sent["expert_shard"],
                  pass.sent("shard", "all_gather") + pass.sent("shard", "reduce_scatter"));
        EXPECT_EQ(sent["pipeline_down"], pass.sent("pipeline down", "send"));
        EXPECT_EQ(sent["pipeline_up"], pass.sent("pipeline up", "send"));
      });
}

}  // namespace
}  // namespace moesaic
