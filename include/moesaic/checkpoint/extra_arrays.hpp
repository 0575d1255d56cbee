#pragma once
/// What a checkpoint carries along though training does not use it: tensors and files of the folder that the weights came
/// from.

#include <mpi.h>

#include <cstddef>
#include <filesystem>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/checkpoint/state.hpp"

namespace moesaic {

class Hdf5File;

/// Arrays below "/extra/", of any storage type, hashed like all others. A run that starts from a checkpoint with extra
/// arrays writes them into each of its own, so an import's survive to the last. Each rank holds, and writes, a part of
/// each. Movable.
class ExtraArrays {
 public:
  static constexpr std::string_view group = "/extra/";
  static constexpr std::string_view files_group = "/extra/files/";

  /// Adds the array "/extra/`name`", of which this rank holds `elements` (`bytes` are theirs, row-major). Every rank adds
  /// the same names, types and shapes in the same order; together they hold every element once.
  void add(std::string_view name, DType type, Extents shape, Block elements, std::vector<std::byte> bytes);
  /// Adds a whole file as the bytes "/extra/files/`name`"; the first rank holds them. Every rank passes the same bytes.
  void add_file(std::string_view name, std::string_view bytes, bool first_rank);
  /// What the checkpoint at `path` holds, each array cut over the ranks in equal blocks. Collective.
  static ExtraArrays load(const std::filesystem::path& path, MPI_Comm ranks);

  /// To be appended to the state that save_checkpoint takes; valid while this lives.
  const std::vector<StateArray>& arrays() const { return arrays_; }

 private:
  std::list<std::vector<std::byte>> bytes_;
  std::vector<StateArray> arrays_;
};

/// The files that an open checkpoint carries, whole, by name. InputError when one is not stored as bytes.
std::map<std::string, std::string> extra_files(const Hdf5File& file);

}  // namespace moesaic
