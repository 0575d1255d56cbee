#include "model_arrays.hpp"

#include <optional>

#include "moesaic/kernels/operators.hpp"

namespace moesaic {

std::vector<StateArray> model_arrays(const ModelSpec& spec) {
  Arena arena(host_memory());
  const LayerContext context{
      .ops = &operators(DeviceKind::cpu), .on = {.stream = host_stream, .arena = &arena}, .type = DType::f32};
  LocalSequences sequences;
  LocalExperts experts;
  const Model model(spec, 1, sequences, experts, nullptr, context);
  return expected_state(model, std::nullopt);
}

std::string array_of(const HfPiece& piece) {
  return is_state(piece) ? piece.parameter : "/parameters/" + piece.parameter;
}

}  // namespace moesaic
