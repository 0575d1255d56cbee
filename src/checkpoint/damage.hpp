#pragma once
/// What the searches for damage in a checkpoint share.

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "file_index.hpp"
#include "moesaic/checkpoint/integrity.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {

/// What is wrong with the hashes before any block is read; nothing for a file of format 1, which has none.
std::vector<Damage> flaws_of(const FileIndex& index);

/// Of the blocks with these numbers in the index.
std::vector<Damage> damages_of(const FileIndex& index, std::span<const std::int64_t> numbers);

/// The numbers that any rank has, on every rank: ascending, each once. Collective.
std::vector<std::int64_t> united(Communicator& ranks, const std::vector<std::int64_t>& mine);

/// False when they cannot be read.
bool read_bytes(const InputFile& file, Block place, std::byte* to);

/// Whether `file` holds at `place` the bytes that `hash` was made of, which are then in `to`; false also when they cannot be
/// read.
bool read_block(const InputFile& file, Block place, std::uint64_t hash, std::byte* to);

}  // namespace moesaic
