#pragma once
/// What the fuzz targets share: a bound on every allocation, and files in memory.

#include <sanitizer/allocator_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace moesaic::fuzz {

/// Of one allocation while an input is worked on; more ends the process.
inline std::size_t most_bytes = SIZE_MAX;

inline const int hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t bytes) {
      if (bytes > most_bytes) std::abort();
    },
    [](const volatile void*) {});

/// Twice the input, and room for messages, tables of names and the like.
class Bound {
 public:
  explicit Bound(std::size_t input) { most_bytes = 2 * input + (std::size_t{1} << 16); }
  Bound(const Bound&) = delete;
  ~Bound() { most_bytes = SIZE_MAX; }
};

/// A file of these bytes that needs no disk.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : descriptor_(::memfd_create("input", 0)) {
    if (::write(descriptor_, data, size) != static_cast<ssize_t>(size)) std::abort();
  }
  MemoryFile(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace moesaic::fuzz
