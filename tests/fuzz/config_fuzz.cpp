// Any bytes as config.json: every look-up and every family reads or refuses them with an InputError.
#include "bounded.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/hf_config.hpp"
#include "moesaic/io/hf_config_text.hpp"
#include "moesaic/models/family.hpp"

namespace moesaic {
namespace {

template <class Action> void attempt(const Action& action) {
  try {
    action();
  } catch (const InputError&) {
  }
}

void look_up(const HfConfig& config) {
  for (const char* key : {"hidden_size", "layer_types", "rope_scaling", "mlp_only_layers", "model_type"}) {
    attempt([&] { config.integer(key); });
    attempt([&] { config.number(key); });
    attempt([&] { config.flag(key); });
    attempt([&] { config.text(key); });
    attempt([&] { config.integers(key); });
    attempt([&] { config.texts(key); });
    attempt([&] { config.section(key); });
  }
  attempt([&] { config.rope(); });
}

}  // namespace
}  // namespace moesaic

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moesaic;
  const std::string text(reinterpret_cast<const char*>(data), size);
  attempt([&] {
    const fuzz::Bound bound(size);
    const HfConfig config = HfConfig::parse(text, "input");
    look_up(config);
    HfConfigText changed(text, "input");
    changed.set("vocab_size", 7);
    changed.shorten("layer_types", 1);
    changed.erase("quantization_config");
    HfConfig::parse(changed.text(), "changed");
  });
  // What a family makes of a config is as large as the model that the config describes.
  attempt([&] { model_spec(HfConfig::parse(text, "input")).total_parameters(); });
  return 0;
}
