#pragma once
/// HDF5's C interface with owners and errors.

#include <hdf5.h>

#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "moesaic/io/storage_type.hpp"

namespace moesaic {

/// Owns one HDF5 identifier.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);
  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }
  bool valid() const { return id_ >= 0; }
  operator hid_t() const { return id_; }

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// HDF5 is not thread-safe: held during every call of a process. Recursive, since files call each other's methods.
[[nodiscard]] std::unique_lock<std::recursive_mutex> lock_hdf5();

/// Keeps HDF5 from printing its errors. Before the first call.
void silence_hdf5();

/// The innermost message of the last failed call.
std::string hdf5_reason();

/// Throws RunError "path: what failed (reason); ..." when `status`, an HDF5 result, is negative.
void check_hdf5(std::int64_t status, const std::string& path, const std::string& action);

/// The type in files and, since both are little-endian, in memory.
Hdf5Handle hdf5_type(DType type);

/// Nothing for types that are not read (texts, compounds).
std::optional<StorageType> storage_type_of(hid_t type);
bool is_little_endian(hid_t type);

}  // namespace moesaic
