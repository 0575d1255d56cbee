#include "moesaic/models/pieces.hpp"

#include <fmt/format.h>

namespace moesaic {
namespace {

void add_attention_bias(Pieces& pieces, const AttentionSpec& spec, const std::string& ours, const std::string& theirs) {
  pieces.parameter(ours + "/query_key_value_bias");
  pieces.tensor(theirs + ".q_proj.bias", {spec.heads * spec.width});
  pieces.tensor(theirs + ".k_proj.bias", {spec.key_heads * spec.width});
  pieces.tensor(theirs + ".v_proj.bias", {spec.key_heads * spec.width});
}

}  // namespace

void add_grouped_query_attention(Pieces& pieces, const AttentionSpec& spec, const std::string& ours,
                                 const std::string& theirs) {
  const std::int64_t queries = spec.heads * spec.width, keys = spec.key_heads * spec.width;
  pieces.parameter(ours + "/query_key_value");
  pieces.tensor(theirs + ".q_proj.weight", {queries, spec.hidden});
  pieces.tensor(theirs + ".k_proj.weight", {keys, spec.hidden});
  pieces.tensor(theirs + ".v_proj.weight", {keys, spec.hidden});
  pieces.whole(ours + "/output", theirs + ".o_proj.weight", {spec.hidden, queries});
  if (spec.head_norm) {
    pieces.whole(ours + "/query_norm", theirs + ".q_norm.weight", {spec.width});
    pieces.whole(ours + "/key_norm", theirs + ".k_norm.weight", {spec.width});
  }
  if (spec.bias) add_attention_bias(pieces, spec, ours, theirs);
  if (spec.output_bias) pieces.whole(ours + "/output_bias", theirs + ".o_proj.bias", {spec.hidden});
  if (spec.sinks) pieces.whole(ours + "/sinks", theirs + ".sinks", {spec.heads});
}

void add_swiglu(Pieces& pieces, std::int64_t hidden, std::int64_t width, const std::string& ours,
                const std::string& theirs) {
  pieces.parameter(ours + "/gate_up");
  pieces.tensor(theirs + ".gate_proj.weight", {width, hidden});
  pieces.tensor(theirs + ".up_proj.weight", {width, hidden});
  pieces.whole(ours + "/down", theirs + ".down_proj.weight", {hidden, width});
}

void add_experts(Pieces& pieces, const MoeSpec& spec, const std::string& ours, const std::string& theirs,
                 const ExpertTensors& names) {
  pieces.parameter(ours + "/gate_up");
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    pieces.tensor(fmt::format("{}.{}.{}.weight", theirs, e, names.gate), {spec.width, spec.hidden});
    pieces.tensor(fmt::format("{}.{}.{}.weight", theirs, e, names.up), {spec.width, spec.hidden});
  }
  pieces.parameter(ours + "/down");
  for (std::int64_t e = 0; e < spec.experts; ++e)
    pieces.tensor(fmt::format("{}.{}.{}.weight", theirs, e, names.down), {spec.hidden, spec.width});
}

}  // namespace moesaic
