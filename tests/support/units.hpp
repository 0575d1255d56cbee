#pragma once
/// Units of parameters for tests.

#include <string>
#include <utility>
#include <vector>

#include "moesaic/layers/parameter.hpp"

namespace moesaic {

inline UnitSpec dense_unit(std::string name, std::vector<ParameterSpec> parameters) {
  return {.name = std::move(name), .expert = false, .parameters = std::move(parameters), .tied_to = ""};
}
inline UnitSpec expert_unit(std::string name, std::vector<ParameterSpec> parameters) {
  return {.name = std::move(name), .expert = true, .parameters = std::move(parameters), .tied_to = ""};
}
/// Shares the values of unit `of`.
inline UnitSpec tied_unit(std::string name, std::vector<ParameterSpec> parameters, std::string of) {
  return {.name = std::move(name), .expert = false, .parameters = std::move(parameters), .tied_to = std::move(of)};
}

}  // namespace moesaic
