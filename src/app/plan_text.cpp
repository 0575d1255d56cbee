// How a plan reads.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "moesaic/app/plan.hpp"
#include "moesaic/base/text.hpp"

namespace moesaic {
namespace {

std::string heading(std::string_view name, std::string_view text) { return fmt::format("{:<12}{}\n", name, text); }

/// A figure of a table and what there is to say about it.
std::string row(std::string_view name, std::string_view figure, std::string_view note = "") {
  std::string line = fmt::format("  {:<20}{:>14}  {}", name, figure, note);
  line.erase(line.find_last_not_of(' ') + 1);
  return line + '\n';
}

/// "1 rank", "3 ranks", "2 micro-batches".
std::string count(std::int64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : noun.ends_with("ch") ? "es" : "s");
}

/// "23.0 GFLOP", "3.01 PFLOP".
std::string flops_text(double flops) {
  constexpr std::array units{"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"};
  std::size_t unit = 0;
  for (; flops >= 1000 && unit + 1 < units.size(); ++unit) flops /= 1000;
  return fmt::format("{:#.5g} {}", flops, units[unit]);
}

/// "pipeline 2 x replicate 1 x shard 4 x context 1".
std::string axes_text(const ProcessGrid& grid, std::initializer_list<Axis> axes) {
  std::string text;
  for (const Axis axis : axes)
    text += fmt::format("{}{} {}", text.empty() ? "" : " x ", name_of(axis), grid.extent(axis));
  return text;
}

constexpr std::size_t most_rows = 16;  // of a list or a drawing

/// The first and the last rows of many.
std::string shortened(const std::string& text) {
  std::vector<std::string> rows;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin) + 1;
    rows.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  if (rows.size() > most_rows) {
    rows.erase(rows.begin() + most_rows / 2, rows.end() - most_rows / 2);
    rows.insert(rows.begin() + most_rows / 2, "...\n");
  }
  return std::accumulate(rows.begin(), rows.end(), std::string());
}

std::string model_text(const ModelSpec& spec) {
  const auto figure = [](std::int64_t count) { return format_count(static_cast<double>(count)); };
  return heading("model", fmt::format("{}, {}{} and hidden {}: {} parameters", spec.family,
                                      count(spec.layers(), "layer"), spec.predicts ? ", multi-token prediction" : "",
                                      spec.hidden, figure(spec.total_parameters()))) +
         heading("  active", fmt::format("{} a token, {} the input embedding (as in this family's published figures)",
                                         figure(spec.active_parameters()),
                                         spec.counts_embedding || spec.tied_head ? "with" : "without")) +
         (spec.prediction_depths > 0 && !spec.predicts
              ? heading("  left out", "multi-token prediction (model.multi_token_prediction is not set)")
              : "");
}

std::string grid_text(const ProcessGrid& grid, const Machine& machine) {
  const int nodes = (machine.ranks + machine.ranks_per_node - 1) / machine.ranks_per_node;
  return heading("ranks", fmt::format("{} on {}", machine.ranks, count(nodes, "node"))) +
         heading("  dense", axes_text(grid, {Axis::pipeline, Axis::replicate, Axis::shard, Axis::context})) +
         heading("  experts",
                 axes_text(grid, {Axis::pipeline, Axis::expert_replicate, Axis::expert_shard, Axis::expert}));
}

std::string batch_text(const RunSettings& settings, const RunPlan& plan) {
  return heading("batch",
                 fmt::format("{} of {} tokens a step: {} of {} on each of {}", count(settings.global_batch, "sequence"),
                             settings.data.sequence, count(plan.micro_batches, "micro-batch"),
                             std::min(settings.micro_batch, settings.global_batch),
                             count(plan.parts.grid.data_ranks(), "data rank")));
}

/// What a rank holds of how much.
std::string share_text(const RunPlan& plan) {
  const ProcessGrid& grid = plan.parts.grid;
  std::string text;
  const auto sparse = std::ranges::find_if(plan.parts.spec.blocks, &BlockSpec::sparse);
  if (sparse != plan.parts.spec.blocks.end())
    text =
        fmt::format("{} of {} experts a layer, ", sparse->moe.experts / grid.extent(Axis::expert), sparse->moe.experts);
  const int context = grid.extent(Axis::context);
  text += fmt::format("1/{} of each dense parameter, ", grid.extent(Axis::shard) * context);
  text += context == 1 ? "whole sequences" : fmt::format("2 of {} blocks of each sequence", 2 * context);
  return heading("a rank", text);
}

const char* storage_name(DType type) { return type == DType::bf16 ? "bf16" : "fp32"; }

std::string numbers_text(const RunSettings& settings, const RunPlan& plan) {
  static constexpr std::array recompute{"none", "block", "selective"};
  return heading("storage", fmt::format("{}; masters and gradients fp32, moments {}; recompute {}; reduce {}",
                                        storage_name(plan.type), storage_name(settings.optimizer.moments),
                                        recompute[static_cast<std::size_t>(settings.recompute)],
                                        settings.reduce_every_micro_batch ? "micro_batch" : "step"));
}

/// "embedding, layers 0-11".
std::string blocks_text(const BlockRange& range, const ModelSpec& spec) {
  const std::int64_t layers = spec.layers();
  std::string text;
  const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  const std::int64_t first = std::max<std::int64_t>(range.first, 1), last = std::min(range.last - 1, layers);
  if (range.first == 0) add("embedding");
  if (first == last) add(fmt::format("layer {}", first - 1));
  if (first < last) add(fmt::format("layers {}-{}", first - 1, last - 1));
  if (range.last == layers + 2) add(spec.predicts ? "head with multi-token prediction" : "head");
  return text;
}

/// What each stage owns, and its share of the floating-point operations.
std::string stages_text(const RunPlan& plan) {
  std::string text;
  for (std::size_t stage = 0; stage < plan.stage_flops.size(); ++stage) {
    std::string blocks;
    for (const BlockRange& range : plan.parts.ranges_of(plan.first_rank_of(static_cast<int>(stage))))
      blocks += (blocks.empty() ? "" : " | ") + blocks_text(range, plan.parts.spec);
    text += fmt::format("  stage {:<4} {:5.1f} % of the work: {}\n", stage,
                        100 * plan.stage_flops[stage] / plan.flops_per_token, blocks);
  }
  return shortened(text);
}

std::string note_on(Label label, const RunPlan& plan) {
  switch (label) {
    case Label::parameters: return "master weights, its slices";
    case Label::gradients: return "their sums, its slices";
    case Label::moments: return "both, its slices";
    case Label::gathered: return fmt::format("whole weights of blocks in use, {}", storage_name(plan.type));
    case Label::unreduced_gradients: return "whole gradients of blocks that wait";
    case Label::activations: return "what forward keeps for backward";
    case Label::exchange: return "messages";
    case Label::workspace:
      return plan.device == DeviceKind::cuda ? "scratch, most for attention's backward" : "scratch";
    case Label::batch: return "tokens, positions, loads";
  }
  return "";
}

/// What uneven routing can add, where receive buffers are bounded.
std::string full_buffers_text(const RunSettings& settings, const RunPlan& plan) {
  if (!plan.at_bound) return "";
  return row("experts at the bound", format_bytes(plan.at_bound->peak),
             fmt::format("{:>9}  were all MoE layers at moe.receive_bound = {}", format_bytes(plan.at_bound->reach),
                         settings.receive_bound));
}

std::string memory_text(const RunSettings& settings, const RunPlan& plan) {
  const Rehearsal& rank = plan.rehearsal;
  const bool staged = plan.stage_flops.size() > 1;
  std::string text = fmt::format("\nmemory of a rank{}: each term when all together are most, and at its own most\n",
                                 staged ? fmt::format(" of stage {}, the fullest", plan.fullest) : "");
  for (int i = 0; i < num_labels; ++i) {
    const auto label = static_cast<Label>(i);
    const std::string most = format_bytes(rank.peaks[static_cast<std::size_t>(i)]);
    text += row(name_of(label), format_bytes(rank.of(label)), fmt::format("{:>9}  {}", most, note_on(label, plan)));
  }
  text += row("together", format_bytes(rank.peak),
              fmt::format("{:>9}  with the gaps in between", format_bytes(rank.reach)));
  text += full_buffers_text(settings, plan);
  return text + row("device memory", format_bytes(plan.memory), fmt::format("{:>9}  run.device_memory", ""));
}

std::string compute_text(const RunSettings& settings, const RunPlan& plan) {
  const double step = plan.flops_per_token * static_cast<double>(settings.global_batch * settings.data.sequence);
  return "\ncompute, forward and backward (half of causal attention, nothing that is computed again)\n" +
         row("a token", flops_text(plan.flops_per_token)) + row("a step", flops_text(step)) +
         row("a step and rank", flops_text(step / plan.parts.grid.ranks()));
}

std::string exchange_text(const RunPlan& plan, const Machine& machine) {
  const ExchangePlan sent = exchange_of(plan.rehearsal);
  const ProcessGrid& grid = plan.parts.grid;
  const int context = grid.extent(Axis::context), shards = grid.extent(Axis::shard) * context,
            copies = grid.extent(Axis::replicate) * shards, expert = grid.extent(Axis::expert),
            slices = grid.extent(Axis::expert_shard) * expert;
  std::string text = "\nexchange: bytes that this rank sends in a step (even routing)\n";
  const auto add = [&](const char* axis, std::int64_t bytes, int consecutive) {
    text += row(axis, format_bytes(bytes),
                bytes == 0                             ? ""
                : machine.holds_in_a_node(consecutive) ? "within a node"
                                                       : "between nodes");
  };
  add("shard", sent.shard, std::max(shards, slices));
  add("replicate", sent.replicate, copies);
  add("expert", sent.expert, expert);
  add("context", sent.context, context);
  add("pipeline", sent.pipeline, grid.ranks());
  return text + row("other", format_bytes(sent.other), "counts, router statistics, norms");
}

/// Both values of train.reduce, where they differ.
std::string reduce_text(const RunSettings& settings, const RunPlan& plan) {
  RunSettings other = settings;
  other.reduce_every_micro_batch = !settings.reduce_every_micro_batch;
  const Rehearsal changed = rehearse(other, plan.parts, plan.first_rank_of(plan.fullest), plan.device);
  if (changed.peak == plan.rehearsal.peak && changed.sent == plan.rehearsal.sent) return "";
  const auto line = [](bool every, const Rehearsal& rank) {
    return row(every ? "micro_batch" : "step", format_bytes(rank.reach),
               fmt::format("and {} sent along shard", format_bytes(exchange_of(rank).shard)));
  };
  const bool every = settings.reduce_every_micro_batch;
  return "\ntrain.reduce: memory against exchange\n" + line(true, every ? plan.rehearsal : changed) +
         line(false, every ? changed : plan.rehearsal);
}

std::string schedule_text(const RunSettings& settings, const RunPlan& plan) {
  const int stages = plan.parts.grid.extent(Axis::pipeline), chunks = plan.parts.chunks;
  if (stages == 1) return "";
  const std::int64_t all = plan.micro_batches, drawn = std::min<std::int64_t>(all, 3 * stages);
  const double idle = bubble_of(settings.schedule, stages, chunks, all, {});
  const double work = 3.0 * static_cast<double>(all * chunks);
  const auto timeline = simulate_pipeline(make_schedules(settings.schedule, stages, chunks, drawn), {});
  std::string text =
      fmt::format("\nschedule {}: {:.1f} % idle where forward and both halves of backward take as long\n",
                  name_of(settings.schedule), 100 * idle / (idle + work));
  text += shortened(draw_pipeline(timeline, 1));
  if (drawn < all) text += fmt::format("drawn with {} of {} micro-batches\n", drawn, all);
  const std::int64_t held = peak_activations_of(settings.schedule, stages, plan.fullest, chunks, all);
  return text + fmt::format("stage {} holds the activations of up to {}{}\n", plan.fullest, count(held, "micro-batch"),
                            chunks == 1 ? "" : ", each through one chunk");
}

}  // namespace

std::string plan_text(const RunSettings& settings, const RunPlan& plan, const Machine& machine) {
  return model_text(plan.parts.spec) + grid_text(plan.parts.grid, machine) + batch_text(settings, plan) +
         share_text(plan) + numbers_text(settings, plan) + stages_text(plan) + memory_text(settings, plan) +
         compute_text(settings, plan) + exchange_text(plan, machine) + reduce_text(settings, plan) +
         schedule_text(settings, plan);
}

}  // namespace moesaic
