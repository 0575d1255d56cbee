#include "moesaic/train/rehearsal.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "moesaic/base/text.hpp"
#include "moesaic/comm/recording_communicator.hpp"
#include "moesaic/comm/silent_communicator.hpp"
#include "moesaic/data/batch.hpp"
#include "moesaic/kernels/silent_operators.hpp"
#include "moesaic/optim/optimizer.hpp"
#include "moesaic/parallel/expert_parallel.hpp"
#include "moesaic/train/compute.hpp"

namespace moesaic {
namespace {

/// Addresses of the first block of a rehearsal's arena. Far more than any rank has, and nothing of it is ever touched.
constexpr std::int64_t address_space = std::int64_t{1} << 43;

/// Tokens that a data rank holds at once, beyond which products of extents could overflow.
constexpr std::int64_t most_tokens = std::int64_t{1} << 30;

Communicators silent_communicators(const ProcessGrid& grid, int rank, Recording& recording, Arena* scratch) {
  const auto along = [&](const char* channel, std::initializer_list<Axis> axes) {
    const std::vector<int> group = grid.group(rank, axes);
    const auto place = static_cast<int>(std::find(group.begin(), group.end(), rank) - group.begin());
    return std::make_unique<RecordingCommunicator>(
        std::make_unique<SilentCommunicator>(place, static_cast<int>(group.size()), scratch), channel, recording);
  };
  Communicators all;
  all.world = std::make_unique<RecordingCommunicator>(std::make_unique<SilentCommunicator>(rank, grid.ranks(), scratch),
                                                      "world", recording);
  all.context = along("context", {Axis::context});
  all.tokens = along("tokens", {Axis::replicate, Axis::shard, Axis::context});
  all.pipeline_down = along("pipeline_down", {Axis::pipeline});
  all.pipeline_up = along("pipeline_up", {Axis::pipeline});
  all.dense_shard = along("dense_shard", {Axis::shard, Axis::context});
  all.dense_replicate = along("dense_replicate", {Axis::replicate});
  all.expert = along("expert", {Axis::expert});
  all.expert_shard = along("expert_shard", {Axis::expert_shard});
  all.expert_replicate = along("expert_replicate", {Axis::expert_replicate});
  return all;
}

/// The parts of a run of one rank; as Assembly, but alone.
class Stage {
 public:
  Stage(const RunSettings& settings, const Decomposition& parts, int rank, DeviceKind device, ExpertLoad load)
      : settings_(settings), parts_(parts), rank_(rank),
        device_(device), context_{.ops = &silent_operators(device),
                                  .on = {.stream = host_stream,
                                         .arena = &arena_,
                                         .deterministic = settings.deterministic},
                                  .type = storage_type(settings, device),
                                  .recompute = settings.recompute},
        communicators_(
            silent_communicators(parts.grid, rank, recording_, device == DeviceKind::cpu ? &arena_ : nullptr)),
        sequences_(make_sequence_exchange(*communicators_.context, settings.context_exchange)),
        experts_(make_expert_exchange(*communicators_.expert, receive_bound(settings, parts.grid, device), load)),
        statistics_(ranks_that_share(settings.auxiliary_scope, communicators_)),
        model_(parts.spec, 1, *sequences_, *experts_, &statistics_, context_, parts.ranges_of(rank)),
        other_angles_(
            arena_.allocate(2 * (settings.data.sequence - 1) * model_.rotary().cosine().bytes(), Label::batch)),
        sharding_(model_.blocks(), context_, parts.grid, rank, communicators_),
        link_(parts.place_of(rank), context_, *communicators_.pipeline_down, *communicators_.pipeline_up,
              parts.spec.hidden),
        runner_(parts.blocks_of(model_, rank), sharding_, link_, context_),
        optimizer_(settings.optimizer, *context_.ops, context_.on, sharding_.units(), parameter_names(),
                   *communicators_.world) {
    if (parts.spec.shares_table() && parts.grid.extent(Axis::pipeline) > 1)
      sharding_.tie_across(*communicators_.pipeline_down);
  }
  Stage(const Stage&) = delete;

  /// A step of so many of the micro-batches, the tokens of all of them in memory.
  Rehearsal step(std::int64_t micro_batches) {
    const Tensor tokens = batch_on_device();
    const PipelinePlace place = parts_.place_of(rank_);
    recording_.clear();
    sharding_.zero_gradients();
    runner_.run(
        make_schedule(settings_.schedule, place.stages, place.stage, place.chunks, micro_batches), views(micro_batches),
        settings_.reduce_every_micro_batch ? Reduction::every_micro_batch : Reduction::last_micro_batch, nullptr);
    sharding_.finish_gradients();
    read_figures();
    optimizer_.update(1, 0, 0);
    return result();
  }

 private:
  /// What a step reads of its device.
  void read_figures() {
    Readings readings(context_.on.stream, arena_);
    runner_.add_losses(readings);
    model_.add_counts(readings);
    optimizer_.add_squares(readings);
    readings.read();
    runner_.take_loss_sums();
    optimizer_.gradient_norm();
  }

  BatchCut cut() const { return {settings_.global_batch, settings_.micro_batch, parts_.grid.data_ranks()}; }
  std::int64_t length() const { return settings_.data.sequence / parts_.grid.extent(Axis::context); }
  std::int64_t sequences(std::int64_t micro_batch) const {
    return cut().sequences(parts_.grid.data_rank(rank_), micro_batch).size();
  }

  /// Ids, labels and positions of a step, and the next ids and labels, as MicroBatches copies them to a GPU.
  Tensor batch_on_device() {
    if (device_ == DeviceKind::cpu) return {};
    const std::int64_t most = settings_.micro_batch * cut().micro_batches();
    const std::int64_t arrays = parts_.spec.predicts ? 5 : 3;
    return arena_.tensor(DType::i32, {arrays, std::min(most, settings_.global_batch), length()}, Label::batch);
  }

  std::vector<MicroBatch> views(std::int64_t micro_batches) const {
    static std::int32_t nothing = 0;
    std::vector<MicroBatch> all;
    for (std::int64_t m = 0; m < micro_batches; ++m) {
      MicroBatch& batch = all.emplace_back();
      batch.sequences = sequences(m);
      batch.length = length();
      batch.parts = parts_.grid.extent(Axis::context);
      batch.ids = batch.labels = batch.positions = host_view(&std::as_const(nothing), {batch.tokens()});
      batch.predicts = parts_.spec.predicts;
      batch.next_ids = batch.next_labels = batch.ids;
    }
    return all;
  }

  std::vector<std::string> parameter_names() const {
    std::vector<std::string> names;
    for (const UnitSpec& unit : model_.units())
      for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
    return names;
  }

  Rehearsal result() const {
    Rehearsal result{.bytes = {}, .peaks = {}, .peak = arena_.peak(), .reach = arena_.reach(), .sent = {}};
    for (int label = 0; label < num_labels; ++label) {
      result.bytes[static_cast<std::size_t>(label)] = arena_.at_peak(static_cast<Label>(label));
      result.peaks[static_cast<std::size_t>(label)] = arena_.peak(static_cast<Label>(label));
    }
    for (const RecordedEvent& event : recording_.events())
      if (event.kind == RecordedEvent::Kind::initiate) result.sent[event.channel] += event.sent;
    return result;
  }

  const RunSettings& settings_;
  const Decomposition& parts_;
  int rank_;
  DeviceKind device_;
  Recording recording_;
  Arena arena_{host_memory(), address_space};
  LayerContext context_;
  Communicators communicators_;
  std::unique_ptr<SequenceExchange> sequences_;
  std::unique_ptr<ExpertExchange> experts_;
  SharedStatistics statistics_;
  Model model_;
  Buffer other_angles_;  ///< of all positions but the first, for which alone the model was made
  FullySharded sharding_;
  PipelineLink link_;
  StageRunner runner_;
  Optimizer optimizer_;
};

/// So many micro-batches that every stage has been as full as it gets, and has come round to a cycle's end.
std::int64_t enough(const PipelinePlace& place) { return place.stages * (place.chunks == 1 ? 2 : 4); }

/// What more of the same adds: all that is sent grows in cycles of `stages` micro-batches.
void extrapolate(Rehearsal& seen, const Rehearsal& one_cycle_more, std::int64_t cycles) {
  for (auto& [channel, bytes] : seen.sent) bytes += (one_cycle_more.sent.at(channel) - bytes) * cycles;
}

void check_tokens(const RunSettings& settings, const ProcessGrid& grid) {
  const std::int64_t sequences = std::min(settings.micro_batch, settings.global_batch / grid.data_ranks() + 1);
  const std::int64_t most = most_tokens / settings.data.sequence;
  MOESAIC_VALIDATE(
      sequences <= most,
      "train.micro_batch = {} of data.sequence = {} tokens is more than a rank can address (all of them are "
      "in memory at once); use {} at most",
      settings.micro_batch, settings.data.sequence, most);
}

}  // namespace

Rehearsal rehearse(const RunSettings& settings, const Decomposition& parts, int rank, DeviceKind device,
                   ExpertLoad load) {
  check_tokens(settings, parts.grid);
  const BatchCut cut{settings.global_batch, settings.micro_batch, parts.grid.data_ranks()};
  const PipelinePlace place = parts.place_of(rank);
  const std::int64_t all = cut.micro_batches(), cycle = place.stages, few = enough(place) + all % cycle;
  try {
    Stage stage(settings, parts, rank, device, load);
    if (all <= few + cycle) return stage.step(all);
    Rehearsal seen = stage.step(few);
    extrapolate(seen, stage.step(few + cycle), (all - few) / cycle);
    return seen;
  } catch (const RunError& error) {  // the arena's
    throw InputError(
        fmt::format("a rank of stage {} would hold more than this host can give addresses to ({}); use more "
                    "ranks, a smaller train.micro_batch or train.recompute = block",
                    place.stage, error.what()));
  }
}

DeviceKind planned_device(const RunSettings& settings) {
  return settings.device == DeviceChoice::cpu ? DeviceKind::cpu : DeviceKind::cuda;
}

}  // namespace moesaic
