#pragma once
/// Tensors that the hub stores twice, of which one is read.

#include <string>
#include <vector>

#include "moesaic/comm/communicator.hpp"
#include "moesaic/io/safetensors.hpp"
#include "moesaic/models/model_spec.hpp"

namespace moesaic {

/// The copies (HfPiece::copy) that the folder has and whose shape or numbers are not those of what they copy. Each rank reads
/// its share of both, a part at a time. AgreedInputError for what cannot be read. Collective.
std::vector<std::string> differing_copies(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces,
                                          Communicator& ranks);

/// Says their names, in one line.
void warn_of_differing_copies(const SafetensorsFolder& folder, const std::vector<HfPiece>& pieces, Communicator& ranks);

}  // namespace moesaic
