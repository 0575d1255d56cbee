#pragma once
/// Copies between host memory and the memory of a stream's device: on the CPU plain copies.

#include "moesaic/tensor/stream.hpp"
#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// device = host, ordered by the stream. Contiguous, of one size and type; `host` may be changed when this returns.
void upload(Stream stream, ConstView host, View device);

/// host = device, after what the stream holds; returns when the values are there.
void download(Stream stream, ConstView device, View host);

/// The same, but may return before: the values are there after wait_for(stream).
void begin_download(Stream stream, ConstView device, View host);

/// to = from, both in the memory of the stream's device, ordered by the stream.
void copy_within(Stream stream, ConstView from, View to);

/// Returns when all work handed to the stream is done.
void wait_for(Stream stream);

}  // namespace moesaic
