#pragma once
/// Small results of a device that the host reads together.

#include <vector>

#include "moesaic/tensor/arena.hpp"
#include "moesaic/tensor/stream.hpp"

namespace moesaic {

/// Collects what is to be read, then reads it in one copy and one wait for the device, however much it is.
class Readings {
 public:
  Readings(Stream stream, Arena& arena) : stream_(stream), arena_(&arena) {}

  /// read() will set `host` to what `device` holds then; contiguous, of one size and type.
  void add(ConstView device, View host);
  /// Waits for what the stream holds, and fills all that was added.
  void read();

 private:
  struct Reading {
    ConstView device;
    View host;
  };
  Stream stream_;
  Arena* arena_;
  std::vector<Reading> readings_;
};

}  // namespace moesaic
