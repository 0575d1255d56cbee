#pragma once
/// The operators' context on the host, with an arena of its own.

#include "moesaic/kernels/context.hpp"

namespace moesaic {

class HostContext {
 public:
  operator OperatorContext() { return {host_stream, &arena_}; }
  Arena& arena() { return arena_; }

 private:
  Arena arena_{host_memory()};
};

}  // namespace moesaic
