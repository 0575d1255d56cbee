#pragma once
/// The checkpoints of one run directory: names, the newest, how many are kept. No file format here.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moesaic {

/// `directory`/checkpoints/step-00000020.h5 and `latest`, a relative symbolic link. Methods that change anything are for
/// rank 0 of the one job that holds the run directory (RunLock).
class CheckpointStore {
 public:
  /// What stays: the `keep` newest, at least one, and those whose step `keep_every` divides (0: none).
  CheckpointStore(const std::filesystem::path& run_directory, std::int64_t keep, std::int64_t keep_every = 0);

  std::filesystem::path path_of(std::int64_t step) const;
  /// Complete checkpoints in the order in which a restart should try them: the one that `latest` names, those before it
  /// from the newest on, then later ones. Without a good `latest` from the newest on. InputError when the folder is there
  /// and cannot be listed.
  std::vector<std::filesystem::path> candidates() const;
  /// The first of them; nothing when there is none.
  std::optional<std::filesystem::path> latest() const;
  bool has_any() const { return latest().has_value(); }
  /// What `latest` names though it is not there; nothing when it is, or there is no `latest`.
  std::optional<std::filesystem::path> dangling() const;

  /// Makes the folder; InputError when that is not possible, or a folder is where `latest` has to be.
  void prepare() const;
  /// Removes what a crash left half written; returns its names.
  std::vector<std::string> sweep() const;
  /// After the checkpoint of `step` is complete on disk: lets `latest` name it, and when that is on disk removes what need
  /// not stay. Later steps, of a run that was begun again from an older checkpoint, are left alone.
  void commit(std::int64_t step) const;

 private:
  std::filesystem::path folder_;
  std::int64_t keep_, keep_every_;
};

}  // namespace moesaic
