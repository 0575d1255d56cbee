#include "moesaic/app/inspect.hpp"

#include "moesaic/base/contract.hpp"
#include "moesaic/base/text.hpp"
#include "moesaic/checkpoint/checkpoint.hpp"
#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {

int inspect_checkpoint(const std::vector<std::string>& words) {
  MOESAIC_VALIDATE(words.size() == 2, "moesaic inspect takes one file; write moesaic inspect CHECKPOINT.h5");
  const Hdf5File file = Hdf5File::open_serial(words[1]);
  const CheckpointInfo info = checkpoint_info(file);
  fmt::print("step {}, {} tokens, {} samples, seed {}\nwritten by {}\n\n", info.step,
             format_count(static_cast<double>(info.tokens)), info.samples, info.seed, info.grid);
  for (const Hdf5Array& array : file.arrays())
    fmt::print("{:<72} {:<5} {}\n", array.name, array.type ? name_of(*array.type) : "?", to_text(array.shape));
  fmt::print("\n{}", info.deck);
  return 0;
}

}  // namespace moesaic
