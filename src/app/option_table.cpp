#include "moesaic/app/option_table.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "moesaic/app/option_values.hpp"
#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

using Options = std::vector<Option>;

constexpr std::int64_t unbounded = std::numeric_limits<std::int64_t>::max();

/// The default applies unless the user gives the key; an empty one leaves the settings' own.
template <class Field>
Option integer(std::string name, std::string fallback, std::string unit, std::string sentence, std::int64_t least,
               Field field, std::int64_t most = unbounded) {
  const auto set = [name, least, most, field](RunSettings& settings, const std::string& text) {
    const std::int64_t value = parse_integer(name, text);
    MOESAIC_VALIDATE(value >= least, "{} = {} is too small; use {} or more", name, text, least);
    MOESAIC_VALIDATE(value <= most, "{} = {} is too large; use {} at most", name, text, most);
    field(settings) = static_cast<std::remove_reference_t<decltype(field(settings))>>(value);
  };
  return {std::move(name), "integer", std::move(fallback), std::move(unit), std::move(sentence), false, set};
}

/// A number in [least, most]; `open_end`: most itself is refused.
template <class Field>
Option number(std::string name, std::string fallback, std::string sentence, double least, double most, Field field,
              bool open_end = false) {
  const auto set = [name, least, most, field, open_end](RunSettings& settings, const std::string& text) {
    const double value = parse_number(name, text);
    MOESAIC_VALIDATE(value >= least && (open_end ? value < most : value <= most),
                     "{} = {} is out of range; use {} to {}{}", name, text, least, open_end ? "below " : "", most);
    field(settings) = value;
  };
  return {std::move(name), "number", std::move(fallback), "", std::move(sentence), false, set};
}

template <class Field> Option text(std::string name, std::string fallback, std::string sentence, Field field) {
  const auto set = [field](RunSettings& settings, const std::string& value) { field(settings) = value; };
  return {std::move(name), "text", std::move(fallback), "", std::move(sentence), false, set};
}

template <class Field> Option flag(std::string name, std::string fallback, std::string sentence, Field field) {
  const auto set = [name, field](RunSettings& settings, const std::string& value) {
    field(settings) = parse_flag(name, value);
  };
  return {std::move(name), "flag", std::move(fallback), "", std::move(sentence), false, set};
}

template <class Value> using Choices = std::vector<std::pair<std::string, Value>>;

template <class Value> std::string joined(const Choices<Value>& choices) {
  std::string words;
  for (const auto& [word, value] : choices) words += (words.empty() ? "" : " | ") + word;
  return words;
}

/// The first choice is the default.
template <class Value, class Field>
Option choice(std::string name, std::string sentence, Choices<Value> choices, Field field) {
  const std::string type = joined(choices), fallback = choices.front().first;
  const auto set = [name, type, choices, field](RunSettings& settings, const std::string& text) {
    const auto found = std::find_if(choices.begin(), choices.end(), [&](const auto& c) { return c.first == text; });
    MOESAIC_VALIDATE(found != choices.end(), "{} = {} is not one of: {}", name, text, type);
    field(settings) = found->second;
  };
  return {std::move(name), type, fallback, "", std::move(sentence), false, set};
}

/// A key whose other values are not built yet: any value but the default is refused with that message.
Option fixed(std::string name, std::string type, std::string only, std::string sentence) {
  const auto set = [name, only](RunSettings&, const std::string& text) {
    MOESAIC_VALIDATE(text == only, "{} = {} is not built yet; leave it out{}", name, text,
                     only.empty() ? "" : " or write " + only);
  };
  return {std::move(name), std::move(type), std::move(only), "", std::move(sentence), false, set, true};
}

Option required(Option option) {
  option.required = true;
  return option;
}

#define FIELD(member) \
  [](RunSettings & s) -> auto& { return s.member; }

Options run_options() {
  Option watchdog =
      number("run.watchdog", "auto", "without progress for so long the job ends; auto: 5 x the slowest steps", 1, 1e9,
             [](RunSettings& s) -> double& { return s.watchdog.emplace(); });
  watchdog.type = "auto | number";
  watchdog.set = [set = watchdog.set](RunSettings& s, const std::string& value) {
    value == "auto" ? s.watchdog.reset() : set(s, value);
  };
  Option wall = text("run.wall_limit", "0", "save a checkpoint and stop after this time; 0: never", FIELD(name));
  wall.type = "hh:mm:ss";
  wall.set = [](RunSettings& s, const std::string& value) { s.wall_limit = parse_duration("run.wall_limit", value); };
  return {
      text("run.name", "moesaic", "a name for people", FIELD(name)),
      required(text("run.directory", "", "folder that all output goes to", FIELD(directory))),
      integer("run.seed", "0", "", "seed of initial weights and sample order", 0, FIELD(seed)),
      choice<DeviceChoice>(
          "run.device", "where to compute",
          {{"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}}, FIELD(device)),
      integer("run.device_memory", "0", "bytes", "of a GPU that a rank may use; 0: what is free, in plan 80e9", 0,
              FIELD(device_memory)),
      wall,
      watchdog,
  };
}

Options model_options() {
  return {
      text("model.config", "", "a Hugging Face config.json; left out: that of model.init", FIELD(config)),
      text("model.init", "random", "random, a Hugging Face folder, or a checkpoint", FIELD(init)),
      integer("model.layers", "0", "", "keep so many of the first layers; 0: all", 0, FIELD(overrides.layers)),
      integer("model.vocabulary", "0", "", "keep so many of the first token ids; 0: all", 0,
              FIELD(overrides.vocabulary)),
      integer("model.experts", "0", "", "keep so many of the first experts; 0: all", 0, FIELD(overrides.experts)),
      integer("model.dense_layers", "-1", "", "leading layers with a dense feed-forward; -1: as the config says", -1,
              FIELD(overrides.dense_layers)),
      flag("model.multi_token_prediction", "false", "train the config's depth of it, too (DeepSeek-V3, Kimi K2)",
           FIELD(overrides.prediction)),
  };
}

Options grid_options() {
  return {
      integer("grid.pipeline", "1", "ranks", "stages that own blocks of layers", 1, FIELD(grid.pipeline), 1 << 20),
      integer("grid.context", "1", "ranks", "ranks that share each sequence", 1, FIELD(grid.context), 1 << 20),
      integer("grid.expert", "1", "ranks", "ranks that own blocks of experts", 1, FIELD(grid.expert), 1 << 20),
      integer("grid.replicate", "1", "ranks", "copies of the shards", 1, FIELD(grid.replicate), 1 << 20),
      integer("grid.shard", "0", "ranks", "slices of every parameter; 0: what the other axes leave", 0,
              FIELD(grid.shard), 1 << 20),
      choice<ScheduleKind>("grid.schedule", "order of the pipeline's micro-batches",
                           {{"1f1b", ScheduleKind::one_f_one_b},
                            {"interleaved", ScheduleKind::interleaved},
                            {"zero_bubble", ScheduleKind::zero_bubble}},
                           FIELD(schedule)),
      integer("grid.chunks", "1", "", "chunks of layers a rank (interleaved)", 1, FIELD(chunks), 1 << 20),
      text("grid.layout", "", "blocks of each stage, such as 5,4,4,3 (embedding, head too); else by cost",
           FIELD(layout)),
      choice<ContextExchange>("grid.context_exchange", "how keys and values reach the ranks that share a sequence",
                              {{"ring", ContextExchange::ring}, {"gather", ContextExchange::gather}},
                              FIELD(context_exchange)),
  };
}

Options data_options() {
  Option separator = integer("data.separator", "", "token id", "ends a document; attention stays within documents", 0,
                             [](RunSettings& s) -> std::int64_t& { return s.data.separator.emplace(); });
  return {
      text("data.path", "", "a file; several: a,b; a mixture by weights: a:0.7,b:0.3", FIELD(data.path)),
      choice<DataFormat>("data.format", "rows: /tokens in HDF5; text: each byte a token; synthetic: random tokens",
                         {{"rows", DataFormat::rows}, {"text", DataFormat::text}, {"synthetic", DataFormat::synthetic}},
                         FIELD(data.format)),
      required(integer("data.sequence", "", "tokens", "length of a sample", 2, FIELD(data.sequence))),
      flag("data.shuffle", "true", "a new order of the rows in each pass, from run.seed", FIELD(data.shuffle)),
      separator,
      text("data.validation", "", "a path like data.path, or the share of it that is held out at its end",
           FIELD(data.validation)),
      integer("data.validate_every", "0", "steps", "validate so often, and after the last step; 0: then only", 0,
              FIELD(validate_every)),
  };
}

Options train_options() {
  Option profile =
      text("train.profile_steps", "none", "time every operator of steps such as 4:6, or of so many", FIELD(name));
  profile.set = [](RunSettings& s, const std::string& value) {
    s.profile_steps = parse_profile_steps("train.profile_steps", value);
  };
  return {
      required(integer("train.steps", "", "steps", "the run is complete at this step, counted from the beginning", 1,
                       FIELD(steps))),
      required(integer("train.global_batch", "", "sequences", "sequences of one step over all ranks", 1,
                       FIELD(global_batch), 1 << 24)),
      integer("train.micro_batch", "1", "sequences", "sequences of one forward on one data rank", 1,
              FIELD(micro_batch)),
      choice<Precision>("train.precision", "of weights and activations; auto: bf16 on CUDA, fp32 on the CPU",
                        {{"auto", Precision::automatic}, {"bf16", Precision::bf16}, {"fp32", Precision::fp32}},
                        FIELD(precision)),
      choice<Recompute>("train.recompute", "what backward runs again instead of keeping it: blocks, or feed-forwards",
                        {{"none", Recompute::none}, {"block", Recompute::block}, {"selective", Recompute::selective}},
                        FIELD(recompute)),
      choice<bool>("train.reduce", "when gradients are summed over ranks: less memory, or less exchange",
                   {{"micro_batch", true}, {"step", false}}, FIELD(reduce_every_micro_batch)),
      number("train.prediction_weight", "0.3", "of the loss of multi-token prediction", 0, 1e3,
             FIELD(prediction_weight)),
      flag("train.deterministic", "true", "the same bits for the same deck and grid; false: faster on GPUs",
           FIELD(deterministic)),
      integer("train.max_skipped", "3", "steps", "so many non-finite (skipped) steps in a row end the run", 1,
              FIELD(max_skipped)),
      profile,
  };
}

Options optimizer_options() {
  return {
      fixed("optimizer.name", "adamw", "adamw", "the optimizer"),
      required(number("optimizer.lr", "", "largest learning rate", 0, 1e3, FIELD(optimizer.lr))),
      choice<LrSchedule>("optimizer.schedule", "learning rate after the warm-up",
                         {{"constant", LrSchedule::constant}, {"cosine", LrSchedule::cosine}, {"wsd", LrSchedule::wsd}},
                         FIELD(optimizer.schedule)),
      integer("optimizer.warmup", "0", "steps", "linear rise of the rate", 0, FIELD(optimizer.warmup)),
      number("optimizer.min_lr", "0", "rate at the last step (cosine, wsd)", 0, 1e3, FIELD(optimizer.min_lr)),
      number("optimizer.decay_share", "0.2", "share of the steps in which wsd falls", 0, 1,
             FIELD(optimizer.decay_share)),
      number("optimizer.beta1", "0.9", "decay of the first moment", 0, 1, FIELD(optimizer.beta1), true),
      number("optimizer.beta2", "0.95", "decay of the second moment", 0, 1, FIELD(optimizer.beta2), true),
      number("optimizer.eps", "1e-8", "added to the root of the second moment", 0, 1, FIELD(optimizer.eps)),
      number("optimizer.weight_decay", "0.1", "decoupled weight decay", 0, 1e3, FIELD(optimizer.weight_decay)),
      choice<Decay>("optimizer.decay", "what decays: matrices, or norms too",
                    {{"matrices", Decay::matrices}, {"all", Decay::all}}, FIELD(optimizer.decay)),
      number("optimizer.clip", "1", "largest global gradient norm; 0: no clipping", 0, 1e30, FIELD(optimizer.clip)),
      choice<DType>("optimizer.moments", "storage of the moments", {{"fp32", DType::f32}, {"bf16", DType::bf16}},
                    FIELD(optimizer.moments)),
  };
}

Options moe_options() {
  return {
      choice<Balance>("moe.balance", "how experts are kept balanced",
                      {{"auxiliary", Balance::auxiliary}, {"bias", Balance::bias}, {"none", Balance::none}},
                      FIELD(balance)),
      number("moe.auxiliary_coefficient", "", "weight of that loss; left out: router_aux_loss_coef of the config", 0,
             1e3, [](RunSettings& s) -> double& { return s.auxiliary_coefficient.emplace(); }),
      choice<BalanceScope>("moe.auxiliary_scope", "over which tokens the auxiliary loss looks",
                           {{"sequence", BalanceScope::sequence}, {"batch", BalanceScope::batch}},
                           FIELD(auxiliary_scope)),
      number("moe.bias_rate", "0.001", "change of a selection bias a step (balance = bias)", 0, 1e3, FIELD(bias_rate)),
      choice<bool>("moe.router", "the model's, or the fake one of benchmarks (consecutive experts)",
                   {{"learned", false}, {"balanced", true}}, FIELD(balanced_router)),
      number("moe.receive_bound", "2", "receive buffers of a GPU's experts, times a micro-batch's mean load", 1, 1e6,
             FIELD(receive_bound)),
  };
}

Options checkpoint_options() {
  Option resume = text("checkpoint.resume", "auto",
                       "go on from the newest in run.directory, or never, or else from a path", FIELD(resume_path));
  resume.type = "auto | never | path";
  resume.set = [](RunSettings& s, const std::string& value) {
    s.resume = value == "auto" ? Resume::automatic : value == "never" ? Resume::never : Resume::path;
    if (s.resume == Resume::path) s.resume_path = value;
  };
  return {
      integer("checkpoint.every", "0", "steps", "save so often, and after the last step; 0: then only", 0,
              FIELD(checkpoint_every)),
      integer("checkpoint.keep", "2", "", "how many of the newest stay", 1, FIELD(keep)),
      integer("checkpoint.keep_every", "0", "steps", "those of every so many steps stay for good; 0: none", 0,
              FIELD(keep_every)),
      resume,
      choice<bool>("checkpoint.background", "write while training goes on, from a copy in host memory",
                   {{"true", true}, {"false", false}}, FIELD(background)),
  };
}

Options log_options() {
  return {integer("log.every", "10", "steps", "a line on the screen so often (metrics.jsonl has every step)", 1,
                  FIELD(log_every))};
}

#undef FIELD

Options all_options() {
  Options all;
  for (auto section : {run_options, model_options, grid_options, data_options, train_options, optimizer_options,
                       moe_options, checkpoint_options, log_options})
    for (Option& option : section()) all.push_back(std::move(option));
  return all;
}

}  // namespace

const std::vector<Option>& option_table() {
  static const Options table = all_options();
  return table;
}

void check_combinations(const RunSettings& s) {
  MOESAIC_VALIDATE(s.data.format == DataFormat::synthetic || !s.data.path.empty(),
                   "data.path is missing (data.format needs a file); name one, or set data.format = synthetic");
  MOESAIC_VALIDATE(s.chunks == 1 || s.schedule == ScheduleKind::interleaved,
                   "grid.chunks = {} needs grid.schedule = interleaved (the others run one chunk a rank); set it, or "
                   "grid.chunks = 1",
                   s.chunks);
  MOESAIC_VALIDATE(s.optimizer.min_lr <= s.optimizer.lr, "optimizer.min_lr = {} is above optimizer.lr = {}; lower it",
                   s.optimizer.min_lr, s.optimizer.lr);
  MOESAIC_VALIDATE(s.optimizer.warmup <= s.steps, "optimizer.warmup = {} is longer than train.steps = {}; shorten it",
                   s.optimizer.warmup, s.steps);
  MOESAIC_VALIDATE(s.profile_steps.first <= s.steps,
                   "train.profile_steps begins at step {} and train.steps = {} (nothing would be recorded); name an "
                   "earlier step",
                   s.profile_steps.first, s.steps);
  MOESAIC_VALIDATE(s.validate_every == 0 || !s.data.validation.empty(),
                   "data.validate_every = {} without data.validation (nothing to validate on); set data.validation",
                   s.validate_every);
}

}  // namespace moesaic
