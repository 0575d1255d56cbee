#include "moesaic/checkpoint/store.hpp"

#include <algorithm>
#include <charconv>
#include <string>
#include <vector>

#include "moesaic/base/contract.hpp"
#include "moesaic/io/input_file.hpp"

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
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (step_of(entry.path())) found.push_back(entry.path());
  // A folder that is there and cannot be listed is not an empty one: a run would begin again from step 0.
  if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
    throw InputError(
        fmt::format("{} cannot be listed ({}; there may be checkpoints to go on from); give this user the "
                    "right to read it, or name another run.directory",
                    folder.string(), error.message()));
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) < step_of(b); });
  return found;
}

}  // namespace

CheckpointStore::CheckpointStore(const fs::path& run_directory, std::int64_t keep, std::int64_t keep_every)
    : folder_(run_directory / "checkpoints"), keep_(std::max<std::int64_t>(keep, 1)), keep_every_(keep_every) {}

fs::path CheckpointStore::path_of(std::int64_t step) const { return folder_ / fmt::format("step-{:08}.h5", step); }

std::vector<fs::path> CheckpointStore::candidates() const {
  std::vector<fs::path> found = checkpoints_in(folder_);
  std::reverse(found.begin(), found.end());
  std::error_code error;
  const auto linked = std::find(found.begin(), found.end(), folder_ / fs::read_symlink(folder_ / "latest", error));
  std::rotate(found.begin(), error || linked == found.end() ? found.begin() : linked, found.end());
  return found;
}

std::optional<fs::path> CheckpointStore::latest() const {
  const std::vector<fs::path> found = candidates();
  if (found.empty()) return std::nullopt;
  return found.front();
}

std::optional<fs::path> CheckpointStore::dangling() const {
  std::error_code error;
  const fs::path target = fs::read_symlink(folder_ / "latest", error);
  if (error || fs::exists(folder_ / target, error)) return std::nullopt;
  return target;
}

void CheckpointStore::prepare() const {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error)
    throw InputError(fmt::format("{} cannot be made ({}); name a run.directory that can be written", folder_.string(),
                                 error.message()));
  const fs::path latest = folder_ / "latest";
  if (fs::is_directory(fs::symlink_status(latest, error)))
    throw InputError(
        fmt::format("{} is a folder (it has to become a link to the newest checkpoint); remove it", latest.string()));
}

std::vector<std::string> CheckpointStore::sweep() const {
  std::vector<std::string> removed;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (name == "latest.next" || (name.starts_with("step-") && name.ends_with(".h5.partial"))) removed.push_back(name);
  }
  std::erase_if(removed, [&](const std::string& name) { return !fs::remove(folder_ / name, error); });
  return removed;
}

void CheckpointStore::commit(std::int64_t step) const {
  const fs::path next = folder_ / "latest.next";
  fs::remove(next);
  fs::create_symlink(path_of(step).filename(), next);
  fs::rename(next, folder_ / "latest");
  sync_path(folder_);
  std::vector<fs::path> older = checkpoints_in(folder_);
  std::erase_if(older, [&](const fs::path& path) { return *step_of(path) >= step; });
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) <= older.size(); ++i)
    if (keep_every_ == 0 || *step_of(older[i]) % keep_every_ != 0) fs::remove(older[i]);
}

}  // namespace moesaic
