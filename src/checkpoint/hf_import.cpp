#include "moesaic/checkpoint/hf_import.hpp"

#include <unistd.h>

#include <memory>

#include "model_arrays.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_copies.hpp"
#include "moesaic/checkpoint/hf_extras.hpp"
#include "moesaic/checkpoint/hf_weights.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/models/family.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// What is imported, checked before any weight is read.
struct Source {
  Source(const fs::path& path, bool prediction)
      : config(HfConfig::load(path / "config.json")), spec(model_spec(config, {.prediction = prediction})),
        pieces(hf_pieces(spec)), folder(path) {
    check_hf_weights(folder, pieces, false);
  }

  HfConfig config;
  ModelSpec spec;
  std::vector<HfPiece> pieces;
  SafetensorsFolder folder;
};

void check_target(const fs::path& checkpoint) {
  MOESAIC_VALIDATE(!fs::exists(checkpoint), "{} is there already (nothing is overwritten); name another file",
                   checkpoint.string());
  const fs::path parent = fs::absolute(checkpoint).parent_path();
  MOESAIC_VALIDATE(fs::is_directory(parent), "{} is no folder (the checkpoint would lie in it); make it first",
                   parent.string());
}

void check_memory(const ModelSpec& spec, int ranks) {
  const double share = 4.0 * static_cast<double>(spec.total_parameters()) / ranks;
  const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  MOESAIC_VALIDATE(
      share < memory,
      "a rank's share of the weights takes {} (4 bytes for each of {} parameters over {} ranks) and this host "
      "has {}; import with more ranks on more hosts",
      format_bytes(static_cast<std::int64_t>(share)), format_count(static_cast<double>(spec.total_parameters())), ranks,
      format_bytes(static_cast<std::int64_t>(memory)));
}

/// The model's arrays, of each this rank's block, with values.
class Weights {
 public:
  Weights(const Source& source, int rank, int ranks) : arrays_(model_arrays(source.spec)) {
    for (StateArray& array : arrays_) {
      array.elements = block_of(array.shape.size(), ranks, rank);
      values_.emplace_back(static_cast<std::size_t>(array.elements.size()));
      array.values = host_view(values_.back().data(), {array.elements.size()});
      array.owner = true;
      read_hf_parameter(source.folder, source.pieces, piece_name(array.name), array.elements, values_.back().data());
    }
  }

  std::vector<StateArray> arrays() const { return arrays_; }

 private:
  /// As pieces call it.
  static std::string piece_name(const std::string& array) {
    const std::string group = "/parameters/";
    return array.starts_with(group) ? array.substr(group.size()) : array;
  }

  std::vector<StateArray> arrays_;
  std::vector<std::vector<float>> values_;
};

CheckpointInfo info_of(const Source& source, const std::string& version, int ranks) {
  CheckpointInfo info;
  info.grid = fmt::format("an import on {} {}", ranks, ranks == 1 ? "rank" : "ranks");
  info.version = version;
  info.deck = fmt::format("# imported from {}\n", source.folder.path().string());
  if (source.spec.predicts) info.deck += "[model]\nmulti_token_prediction = true\n";
  info.config = source.config.source();
  return info;
}

}  // namespace

void import_hf_folder(const fs::path& folder, const fs::path& checkpoint, const std::string& version,
                      Communicator& world, bool prediction) {
  std::unique_ptr<Source> source;
  std::unique_ptr<Weights> weights;
  ExtraArrays extras;
  together(world, [&] {
    if (world.rank() == 0) check_target(checkpoint);
    source = std::make_unique<Source>(folder, prediction);
    check_memory(source->spec, world.size());
  });
  together(world, [&] {
    weights = std::make_unique<Weights>(*source, world.rank(), world.size());
    extras = hf_extras(source->folder, source->pieces, true, world.rank(), world.size());
  });
  warn_of_differing_copies(source->folder, source->pieces, world);
  std::vector<StateArray> arrays = weights->arrays();
  arrays.insert(arrays.end(), extras.arrays().begin(), extras.arrays().end());
  save_checkpoint(fs::absolute(checkpoint), MPI_COMM_WORLD, info_of(*source, version, world.size()), arrays);
  log_line("{} has the {} parameters of {}", checkpoint.string(),
           format_count(static_cast<double>(source->spec.total_parameters())), folder.string());
  for (const std::string& file : large_files(source->folder))
    log_line("{} is too large to be kept in a checkpoint; copy it beside what you export", file);
}

}  // namespace moesaic
