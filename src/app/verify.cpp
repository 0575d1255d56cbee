#include "moesaic/app/verify.hpp"

#include "moesaic/base/contract.hpp"
#include "moesaic/base/log.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/comm/agreement.hpp"

namespace moesaic {
namespace {

std::string all_of(const std::vector<Damage>& damages) {
  std::string lines;
  for (const Damage& damage : damages) lines += "\n  " + describe(damage);
  return lines;
}

}  // namespace

int verify_command(const std::vector<std::string>& words, Communicator* world) {
  if (words.size() != 2) throw AgreedInputError("moesaic verify takes one file; write moesaic verify CHECKPOINT.h5");
  const std::string& path = words[1];
  const Verification found = world ? verify_checkpoint(path, *world) : verify_checkpoint(path);
  if (!found.intact())
    throw AgreedInputError(fmt::format("{} is damaged (it is not what was written); use another checkpoint:{}", path,
                                       all_of(found.damages)));
  if (world && world->rank() != 0) return 0;
  if (found.format == 1)
    log_line("{}: step {}, {} arrays; format 1 has no hashes, nothing could be compared", path, found.step,
             found.arrays);
  else
    log_line("{}: step {}, {} arrays, {} in {} blocks: all as written", path, found.step, found.arrays,
             format_bytes(found.bytes), found.blocks);
  return 0;
}

}  // namespace moesaic
