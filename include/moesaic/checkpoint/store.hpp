#pragma once
/// The checkpoints of one run directory: names, the newest, how many are kept. No file format here.

#include <cstdint>
#include <filesystem>
#include <optional>

namespace moesaic {

/// `directory`/checkpoints/step-00000020.h5 and `latest`, a relative symbolic link. Methods that change anything are for
/// rank 0 alone.
class CheckpointStore {
 public:
  CheckpointStore(const std::filesystem::path& run_directory, std::int64_t keep);

  std::filesystem::path path_of(std::int64_t step) const;
  /// The newest complete checkpoint; nothing when there is none.
  std::optional<std::filesystem::path> latest() const;
  bool has_any() const { return latest().has_value(); }

  /// Makes the folder; InputError when that is not possible.
  void prepare() const;
  /// After the checkpoint of `step` is complete on disk: lets `latest` name it, then removes all but the `keep` newest.
  void commit(std::int64_t step) const;

 private:
  std::filesystem::path folder_;
  std::int64_t keep_;
};

}  // namespace moesaic
