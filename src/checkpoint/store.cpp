#include "moesaic/checkpoint/store.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// The step of a complete checkpoint's name; nothing for other files.
std::optional<std::int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string(), before = "step-", after = ".h5";
  if (!name.starts_with(before) || !name.ends_with(after)) return std::nullopt;
  std::int64_t step = 0;
  const char* end = name.data() + name.size() - after.size();
  const auto read = std::from_chars(name.data() + before.size(), end, step);
  return read.ec == std::errc{} && read.ptr == end ? std::optional(step) : std::nullopt;
}

/// Complete checkpoints in `folder`, oldest first.
std::vector<fs::path> checkpoints_in(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none))
    if (step_of(entry.path())) found.push_back(entry.path());
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) < step_of(b); });
  return found;
}

}  // namespace

CheckpointStore::CheckpointStore(const fs::path& run_directory, std::int64_t keep)
    : folder_(run_directory / "checkpoints"), keep_(std::max<std::int64_t>(keep, 1)) {}

fs::path CheckpointStore::path_of(std::int64_t step) const { return folder_ / fmt::format("step-{:08}.h5", step); }

std::optional<fs::path> CheckpointStore::latest() const {
  std::error_code error;
  const fs::path target = fs::read_symlink(folder_ / "latest", error);
  if (!error && fs::exists(folder_ / target)) return folder_ / target;
  const std::vector<fs::path> complete = checkpoints_in(folder_);
  if (complete.empty()) return std::nullopt;
  return complete.back();
}

void CheckpointStore::prepare() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error)
    throw InputError(fmt::format("{} cannot be made ({}); name a run.directory that can be written", folder_.string(),
                                 error.message()));
}

void CheckpointStore::commit(std::int64_t step) const {
  const fs::path next = folder_ / "latest.next";
  fs::remove(next);
  fs::create_symlink(path_of(step).filename(), next);
  fs::rename(next, folder_ / "latest");
  std::vector<fs::path> complete = checkpoints_in(folder_);
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < complete.size(); ++i)
    if (complete[i] != path_of(step)) fs::remove(complete[i]);
}

}  // namespace moesaic
