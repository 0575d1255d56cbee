#include "moesaic/train/assembly.hpp"

#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include <filesystem>

#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_copies.hpp"
#include "moesaic/checkpoint/hf_weights.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/comm/mpi_communicator.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/models/cost.hpp"
#include "moesaic/models/family.hpp"
#include "moesaic/parallel/initialise.hpp"
#include "moesaic/parallel/stage_layout.hpp"
#include "moesaic/tensor/transfer.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// Not even one rank's master weights, gradients and moments would fit: said before anything is allocated.
void check_memory(const ModelSpec& spec, int ranks) {
  const double needed = 16.0 * static_cast<double>(spec.total_parameters()) / ranks;
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  MOESAIC_VALIDATE(
      needed < memory,
      "a rank's share of the model takes {} (16 bytes for each of {} parameters over {} ranks) and this "
      "host has {}; use more ranks, or a slice of the model (model.layers, model.vocabulary, model.experts)",
      format_bytes(static_cast<std::int64_t>(needed)), format_count(static_cast<double>(spec.total_parameters())),
      ranks, format_bytes(static_cast<std::int64_t>(memory)));
}

void check_weights(const RunSettings& settings, const ModelSpec& spec) {
  if (settings.init == "random") return;
  MOESAIC_VALIDATE(fs::exists(settings.init),
                   "model.init = {} does not exist; name a Hugging Face folder or a checkpoint", settings.init);
  if (!is_hf_folder(settings)) return;
  const ModelOverrides& cut = settings.overrides;
  MOESAIC_VALIDATE(!spec.predicts || cut.layers == 0,
                   "model.layers = {} with model.multi_token_prediction (the folder has it behind its own last layer); "
                   "leave one of them out, or set model.init = random",
                   cut.layers);
  check_hf_weights(SafetensorsFolder(settings.init), hf_pieces(spec), cut.vocabulary > 0 || cut.experts > 0);
}

/// The routers' selection biases; those that the folder does not have start at zero.
void load_selection_biases(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, const Model& model,
                           Stream stream) {
  for (std::size_t i = 0; i < model.accounts().size(); ++i) {
    const View bias = model.accounts()[i].selection_bias;
    if (bias.absent()) continue;
    std::vector<float> values(static_cast<std::size_t>(bias.size()));
    read_hf_parameter(folder, pieces, selection_bias_name(model.account_layers()[i]), {0, bias.size()}, values.data());
    upload(stream, host_view(std::as_const(values).data(), {bias.size()}), bias);
  }
}

/// Weights of multi-token prediction are neither missing nor dropped.
void check_prediction(const std::string& checkpoint, bool predicts, bool training) {
  const bool there = Hdf5File::open_serial(checkpoint).contains("/parameters/prediction");
  MOESAIC_VALIDATE(
      there || !predicts,
      "{} has no weights of multi-token prediction (model.multi_token_prediction = true trains them); import "
      "the folder with model.multi_token_prediction=true, or leave it out of the deck",
      checkpoint);
  MOESAIC_VALIDATE(predicts || !there || !training,
                   "{} has weights of multi-token prediction, and this run would drop them; set "
                   "model.multi_token_prediction = true",
                   checkpoint);
}

LayerContext host_context(Arena& arena, Recompute recompute) {
  return {.ops = &operators(DeviceKind::cpu),
          .on = {.stream = host_stream, .arena = &arena},
          .type = DType::f32,
          .recompute = recompute};
}

}  // namespace

Inputs::Inputs(const RunSettings& settings, int ranks) : Decomposition(settings, ranks) {
  if (chosen_device(settings) == DeviceKind::cpu) check_memory(spec, ranks);
  check_weights(settings, spec);
  data = open_datasets(settings.data, spec.vocabulary, settings.seed);
}

void check_starting_weights(const RunSettings& settings, const Inputs& inputs, bool training) {
  const std::string& resumed = inputs.start.path;
  if (resumed.empty() && (settings.init == "random" || is_hf_folder(settings))) return;
  Arena arena(host_memory());
  LocalSequences sequences;
  LocalExperts experts;
  Model model(inputs.spec, 1, sequences, experts, nullptr, host_context(arena, settings.recompute));
  const std::string& from = resumed.empty() ? settings.init : resumed;
  check_prediction(from, inputs.spec.predicts, training);
  const bool with_moments = training && !resumed.empty();
  check_checkpoint(from,
                   expected_state(model, with_moments ? std::optional(settings.optimizer.moments) : std::nullopt));
}

Assembly::Assembly(const RunSettings& settings, const Inputs& inputs, const MpiSession& session)
    : compute(settings, session), arena(compute.arena()), communicators(compute.communicators(inputs.grid)),
      context(compute.context(settings)),
      sequences(make_sequence_exchange(*communicators.context, settings.context_exchange)),
      experts(
          make_expert_exchange(*communicators.expert, receive_bound(settings, inputs.grid, context.on.stream.device))),
      statistics(ranks_that_share(settings.auxiliary_scope, communicators)),
      model(inputs.spec, settings.data.sequence, *sequences, *experts, &statistics, context,
            inputs.ranges_of(session.rank())),
      sharding(model.blocks(), context, inputs.grid, session.rank(), communicators),
      link(inputs.place_of(session.rank()), context, *communicators.pipeline_down, *communicators.pipeline_up,
           inputs.spec.hidden),
      runner(inputs.blocks_of(model, session.rank()), sharding, link, context) {
  if (inputs.spec.shares_table() && inputs.grid.extent(Axis::pipeline) > 1)
    sharding.tie_across(*communicators.pipeline_down);
}

void Assembly::initialise(const RunSettings& settings, const Inputs& inputs) {
  if (settings.init != "random" && !is_hf_folder(settings)) {
    load_checkpoint(settings.init, MPI_COMM_WORLD, parameters(), context.on.stream);
    return;
  }
  together(*communicators.world, [&] {
    const auto pieces = hf_pieces(inputs.spec);
    std::optional<SafetensorsFolder> folder;
    if (is_hf_folder(settings)) folder.emplace(settings.init);
    for (const auto& unit : sharding.units()) {
      if (unit->tied()) continue;
      if (folder)
        load_hf_weights(*folder, pieces, *unit);
      else
        initialise_random(*unit, settings.seed, inputs.spec.initializer_range);
    }
    if (folder) load_selection_biases(*folder, pieces, model, context.on.stream);
  });
  if (inputs.spec.predicts && is_hf_folder(settings))
    warn_of_differing_copies(SafetensorsFolder(settings.init), hf_pieces(inputs.spec), *communicators.world);
}

std::vector<std::string> Assembly::parameter_names() const {
  std::vector<std::string> names;
  for (const UnitSpec& unit : model.units())
    for (const ParameterSpec& parameter : unit.parameters) names.push_back(parameter.name);
  return names;
}

}  // namespace moesaic
