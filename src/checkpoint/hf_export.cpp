#include "moesaic/checkpoint/hf_export.hpp"

#include <cstring>
#include <map>
#include <memory>

#include "disk_space.hpp"
#include "exported_config.hpp"
#include "exported_tensors.hpp"
#include "model_arrays.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/checkpoint/extra_arrays.hpp"
#include "moesaic/checkpoint/hf_extras.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/io/input_file.hpp"
#include "moesaic/io/output_file.hpp"
#include "moesaic/models/family.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// What is exported, found before anything is written.
struct Export {
  Export(const fs::path& checkpoint, const ExportRequest& request)
      : file(Hdf5File::open_serial(checkpoint)), info(checkpoint_info(file)), manifest(hf_manifest(file)),
        spec(model_spec(HfConfig::parse(info.config, checkpoint.string()), request.overrides)), pieces(hf_pieces(spec)),
        tensors(exported_tensors(pieces, manifest, request)), shards(entries(tensors), request.file_bytes) {}

  static std::vector<SafetensorsEntry> entries(const std::vector<ExportedTensor>& tensors) {
    std::vector<SafetensorsEntry> all;
    for (const ExportedTensor& tensor : tensors) all.push_back(tensor.entry);
    return all;
  }
  std::int64_t bytes() const {
    std::int64_t sum = 0;
    for (const auto& shard : shards.files()) sum += shard.bytes;
    return sum;
  }

  Hdf5File file;
  CheckpointInfo info;
  HfManifest manifest;
  ModelSpec spec;
  std::vector<HfPiece> pieces;
  std::vector<ExportedTensor> tensors;
  SafetensorsShards shards;
};

void check_target(const fs::path& folder) {
  const bool empty = !fs::exists(folder) || (fs::is_directory(folder) && fs::is_empty(folder));
  MOESAIC_VALIDATE(empty, "{} is there already (nothing is overwritten); name another folder", folder.string());
  const fs::path parent = fs::absolute(folder).parent_path();
  MOESAIC_VALIDATE(fs::is_directory(parent), "{} is no folder (the exported one would lie in it); make it first",
                   parent.string());
}

void check_undamaged(const fs::path& checkpoint, Communicator& world) {
  const Verification verification = verify_checkpoint(checkpoint, world);
  if (verification.intact()) return;
  throw AgreedInputError(fmt::format("{}: {} (the weights are not what was written); export another checkpoint",
                                     checkpoint.string(), describe(verification.damages.front())));
}

void write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write_at(0, text.data(), std::ssize(text));
  file.sync();
}

/// Everything but the tensors, in files that have their final size.
void prepare(const Export& source, const ExportRequest& request, const fs::path& folder) {
  fs::remove_all(folder);
  fs::create_directory(folder);
  for (const auto& shard : source.shards.files()) {
    if (const int error = reserve_space(folder / shard.name, shard.bytes))
      throw RunError(fmt::format("{} cannot be written ({}; it takes {}); free some space, then export again",
                                 folder.string(), std::strerror(error), format_bytes(source.bytes())));
    OutputFile file(folder / shard.name);
    file.write_at(0, shard.head.data(), std::ssize(shard.head));
  }
  if (!source.shards.index().empty()) write_text(folder / "model.safetensors.index.json", source.shards.index());
  const StorageType type = request.type.value_or(source.manifest.type);
  write_text(folder / "config.json", exported_config(source.info.config, source.spec, type, request.overrides));
  for (const auto& [name, bytes] : extra_files(source.file)) write_text(folder / name, bytes);
}

/// This rank's tensors: consecutive ones, cut by bytes.
void write_tensors(const Export& source, const fs::path& folder, int rank, int ranks) {
  std::int64_t total = 0, before = 0;
  for (const ExportedTensor& tensor : source.tensors) total += tensor.entry.bytes();
  const Block mine = block_of(total, ranks, rank);
  std::map<std::size_t, OutputFile> files;
  for (std::size_t i = 0; i < source.tensors.size(); ++i) {
    const bool is_mine = mine.contains(before);  // its first byte
    before += source.tensors[i].entry.bytes();
    if (!is_mine) continue;
    const SafetensorsPlace place = source.shards.places()[i];
    auto file = files.try_emplace(place.file, folder / source.shards.files()[place.file].name).first;
    read_exported(source.file, source.tensors[i], [&](std::int64_t at, const void* bytes, std::int64_t count) {
      file->second.write_at(place.begin + at, bytes, count);
    });
  }
  for (auto& [number, file] : files) file.sync();
}

void put_in_place(const fs::path& partial, const fs::path& folder) {
  sync_path(partial);
  if (fs::exists(folder)) fs::remove(folder);  // empty
  fs::rename(partial, folder);
  sync_path(fs::absolute(folder).parent_path());
}

/// Biases that a run made to balance a model of a family that has none.
void mention_lost_biases(const Export& source) {
  for (const HfPiece& piece : source.pieces)
    if (is_state(piece)) return;
  if (source.file.contains("/router") && source.file.contains("/router/selection_bias"))
    log_warn("selection biases are left out: {} has no tensor for them, so the exported model routes without them",
             source.spec.family);
}

}  // namespace

void export_hf_folder(const fs::path& checkpoint, const fs::path& folder, const ExportRequest& request,
                      Communicator& world) {
  fs::path target = folder;
  if (target.filename().empty()) target = target.parent_path();  // "folder/"
  fs::path partial = target;
  partial += ".partial";
  std::unique_ptr<Export> source;
  together(world, [&] {
    if (world.rank() == 0) check_target(target);
    source = std::make_unique<Export>(checkpoint, request);
    if (world.rank() == 0) check_checkpoint(checkpoint, model_arrays(source->spec));
  });
  check_undamaged(checkpoint, world);
  together(world, [&] {
    if (world.rank() == 0) prepare(*source, request, partial);
  });
  together(world, [&] { write_tensors(*source, partial, world.rank(), world.size()); });
  together(world, [&] {
    if (world.rank() == 0) put_in_place(partial, target);
  });
  if (world.rank() == 0) mention_lost_biases(*source);
  log_line("{} has {} tensors in {} {}, {}, from step {}", target.string(), source->tensors.size(),
           source->shards.files().size(), source->shards.files().size() == 1 ? "file" : "files",
           format_bytes(source->bytes()), source->info.step);
}

}  // namespace moesaic
