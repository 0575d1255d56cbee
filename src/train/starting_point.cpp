#include "moesaic/train/starting_point.hpp"

#include <filesystem>

#include "moesaic/base/log.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/checkpoint/store.hpp"
#include "moesaic/comm/agreement.hpp"

namespace moesaic {
namespace fs = std::filesystem;
namespace {

/// The first rank's list, on every rank.
std::vector<std::string> candidates(const RunSettings& settings, Communicator& world) {
  std::string lines;
  if (world.rank() == 0)
    for (const fs::path& path : CheckpointStore(settings.directory, settings.keep).candidates())
      lines += path.string() + '\n';
  lines = broadcast_text(world, lines, 0);
  std::vector<std::string> paths;
  for (std::size_t begin = 0; begin < lines.size(); begin = lines.find('\n', begin) + 1)
    paths.push_back(lines.substr(begin, lines.find('\n', begin) - begin));
  return paths;
}

/// Why the checkpoint cannot be trusted, or read at all; empty when it can.
std::string flaw_of(const std::string& path, Communicator& world, const std::function<void()>& alive) {
  try {
    const Verification found = verify_checkpoint(path, world, alive);
    if (found.format == 1 && world.rank() == 0)
      log_line("{} is of format 1, without hashes: its content is taken as it is; the next one will have them", path);
    if (found.intact()) return "";
    const std::size_t others = found.damages.size() - 1;
    return describe(found.damages.front()) + (others == 0 ? "" : fmt::format(", and {} blocks more", others));
  } catch (const AgreedInputError& error) {
    return error.what();
  }
}

/// Says which ones are passed over. The link that leads nowhere is a sign of a crash, or of a removed file.
void warn(const RunSettings& settings, const StartingPoint& found) {
  const CheckpointStore store(settings.directory, settings.keep);
  if (const auto lost = store.dangling()) log_warn("checkpoints/latest names {}, which is not there", lost->string());
  for (const auto& [path, why] : found.damaged) log_warn("{} is damaged and passed over: {}", path, why);
}

}  // namespace

StartingPoint find_starting_point(const RunSettings& settings, Communicator& world,
                                  const std::function<void()>& alive) {
  StartingPoint found;
  if (settings.resume == Resume::never) return found;
  const std::vector<std::string> paths = candidates(settings, world);
  for (const std::string& path : paths) {
    const std::string flaw = flaw_of(path, world, alive);
    if (flaw.empty()) {
      found.path = path;
      found.own = true;
      break;
    }
    found.damaged[path] = flaw;
  }
  if (world.rank() == 0) warn(settings, found);
  if (found.path.empty() && !paths.empty())
    throw AgreedInputError(
        fmt::format("{} holds {} checkpoints and none of them is good (the run would begin again from "
                    "step 0); bring one back, or name another run.directory",
                    settings.directory, paths.size()));
  if (paths.empty() && settings.resume == Resume::path) {
    found.path = settings.resume_path;
    const std::string flaw = flaw_of(found.path, world, alive);
    if (!flaw.empty())
      throw AgreedInputError(
          fmt::format("checkpoint.resume = {} cannot be used: {}; name another checkpoint", found.path, flaw));
  }
  if (!found.path.empty()) found.info = read_checkpoint_info(found.path, MPI_COMM_WORLD);
  return found;
}

}  // namespace moesaic
