#pragma once
/// Room on the disk, taken before it is needed: collective writes to a full disk never end.

#include <cstdint>
#include <filesystem>

namespace moesaic {

/// Takes space for the first `bytes` of the file `path`, which is made if it is not there. Where the file system cannot
/// reserve, the free space is compared. Returns the errno of what failed; 0: there is room.
int reserve_space(const std::filesystem::path& path, std::int64_t bytes);

}  // namespace moesaic
