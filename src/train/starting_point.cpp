#include "moesaic/train/starting_point.hpp"

#include <filesystem>
#include <utility>

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
  together(world, [&] {
    if (world.rank() != 0) return;
    for (const fs::path& path : CheckpointStore(settings.directory, settings.keep).candidates())
      lines += path.string() + '\n';
  });
  lines = broadcast_text(world, lines, 0);
  std::vector<std::string> paths;
  for (std::size_t begin = 0; begin < lines.size(); begin = lines.find('\n', begin) + 1)
    paths.push_back(lines.substr(begin, lines.find('\n', begin) - begin));
  return paths;
}

/// Tells what `path` says of itself; why it cannot be trusted, or read at all; empty when it can.
std::string flaw_of(const std::string& path, CheckpointInfo& info) {
  try {
    info = read_checkpoint_info(path, MPI_COMM_WORLD);
    return "";
  } catch (const DamagedCheckpointError& error) {
    return error.damage;
  } catch (const AgreedInputError& error) {
    return error.what();
  }
}

/// The link that leads nowhere is a sign of a crash, or of a removed file.
void warn_of_link(const RunSettings& settings) {
  const CheckpointStore store(settings.directory, settings.keep);
  if (const auto lost = store.dangling()) log_warn("checkpoints/latest names {}, which is not there", lost->string());
}

/// The first of `paths` that is good; the others join `found.damaged`.
void take_first_good(const std::vector<std::string>& paths, StartingPoint& found) {
  for (const std::string& path : paths) {
    if (found.damaged.contains(path)) continue;
    const std::string flaw = flaw_of(path, found.info);
    if (flaw.empty()) {
      found.path = path;
      found.own = true;
      return;
    }
    found.damaged[path] = flaw;
  }
}

void take_named(const RunSettings& settings, StartingPoint& found) {
  found.path = settings.resume_path;
  const auto known = found.damaged.find(found.path);
  const std::string flaw = known != found.damaged.end() ? known->second : flaw_of(found.path, found.info);
  if (!flaw.empty())
    throw AgreedInputError(
        fmt::format("checkpoint.resume = {} cannot be used: {}; name another checkpoint", found.path, flaw));
}

}  // namespace

StartingPoint find_starting_point(const RunSettings& settings, Communicator& world, DamagedCheckpoints damaged) {
  StartingPoint found;
  if (settings.resume == Resume::never) return found;
  const bool first_rank = world.rank() == 0;
  if (first_rank && damaged.empty()) warn_of_link(settings);
  const std::vector<std::string> paths = candidates(settings, world);
  const DamagedCheckpoints known = damaged;
  found.damaged = std::move(damaged);
  take_first_good(paths, found);
  for (const auto& [path, why] : found.damaged)
    if (first_rank && !known.contains(path)) log_warn("{} is damaged and passed over: {}", path, why);
  if (found.path.empty() && !paths.empty())
    throw AgreedInputError(
        fmt::format("{} holds {} checkpoints and none of them is good (the run would begin again from "
                    "step 0); bring one back, or name another run.directory",
                    settings.directory, paths.size()));
  if (paths.empty() && settings.resume == Resume::path) take_named(settings, found);
  return found;
}

}  // namespace moesaic
