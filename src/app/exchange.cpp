#include "moesaic/app/exchange.hpp"

#include <sstream>

#include "moesaic/app/build_info.hpp"
#include "moesaic/app/option_values.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/hf_export.hpp"
#include "moesaic/checkpoint/hf_import.hpp"
#include "moesaic/comm/agreement.hpp"
#include "moesaic/io/hdf5_file.hpp"
#include "moesaic/train/run.hpp"

namespace moesaic {
namespace {

using Words = std::vector<std::string>;

constexpr std::string_view prediction_key = "model.multi_token_prediction";

/// The value of `key` in section [model] of a resolved deck, or `fallback`.
std::string model_key(const std::string& deck, const std::string& key, const std::string& fallback) {
  std::istringstream lines(deck);
  bool in_model = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[")) in_model = line.starts_with("[model]");
    if (in_model && line.starts_with(key + " = ")) return line.substr(key.size() + 3);
  }
  return fallback;
}

/// What the deck that a checkpoint was trained with changed of the model.
ModelOverrides overrides_in(const std::string& deck) {
  return {.layers = std::stoll(model_key(deck, "layers", "0")),
          .vocabulary = std::stoll(model_key(deck, "vocabulary", "0")),
          .experts = std::stoll(model_key(deck, "experts", "0")),
          .dense_layers = std::stoll(model_key(deck, "dense_layers", "-1")),
          .prediction = parse_flag(prediction_key, model_key(deck, "multi_token_prediction", "false"))};
}

/// The one word that import takes beside its paths.
bool asked_prediction(std::string word) {
  if (word.starts_with("--")) word.erase(0, 2);
  const std::string begin = std::string(prediction_key) + "=";
  MOESAIC_VALIDATE(word.starts_with(begin),
                   "{} is no option of import; write {}true, or leave it out to carry those weights along untrained",
                   word, begin);
  return parse_flag(prediction_key, word.substr(begin.size()));
}

StorageType asked_type(const std::string& word) {
  MOESAIC_VALIDATE(
      word == "dtype=bf16" || word == "dtype=fp32" || word == "--dtype=bf16" || word == "--dtype=fp32",
      "{} is no option of export; write dtype=bf16 or dtype=fp32, or leave it out to keep what was imported", word);
  return word.ends_with("bf16") ? StorageType::bf16 : StorageType::f32;
}

}  // namespace

int run_import(const Words& words, Communicator& world) {
  ModelOverrides overrides;
  together(world, [&] {
    MOESAIC_VALIDATE(words.size() == 3 || words.size() == 4,
                     "moesaic import takes a folder and a file; write moesaic import HF_DIR CHECKPOINT.h5");
    if (words.size() == 4) overrides.prediction = asked_prediction(words[3]);
  });
  import_hf_folder(words[1], words[2], build_info::version, world, overrides.prediction);
  return done;
}

int run_export(const Words& words, Communicator& world) {
  ExportRequest request;
  together(world, [&] {
    MOESAIC_VALIDATE(
        words.size() == 3 || words.size() == 4,
        "moesaic export takes a file and a folder; write moesaic export CHECKPOINT.h5 HF_DIR [dtype=bf16]");
    if (words.size() == 4) request.type = asked_type(words[3]);
    request.overrides = overrides_in(checkpoint_info(Hdf5File::open_serial(words[1])).deck);
  });
  export_hf_folder(words[1], words[2], request, world);
  return done;
}

}  // namespace moesaic
