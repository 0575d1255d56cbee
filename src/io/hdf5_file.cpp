#include "moesaic/io/hdf5_file.hpp"

#include <algorithm>
#include <exception>
#include <utility>

#include "hdf5_support.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/input_file.hpp"

namespace moesaic {
namespace {

namespace fs = std::filesystem;

/// Access through MPI-IO, or POSIX when `communicator` is null. Version 1.10 of the format has checksums on its
/// metadata. Large arrays begin at whole MiB, as file systems stripe.
Hdf5Handle file_access(MPI_Comm communicator) {
  constexpr hsize_t mebibyte = hsize_t{1} << 20;
  silence_hdf5();
  Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  if (communicator != MPI_COMM_NULL) H5Pset_fapl_mpio(access, communicator, MPI_INFO_NULL);
  H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
  H5Pset_alignment(access, 8 * mebibyte, mebibyte);
  // Locks fail on many parallel file systems, and every file here is written by one job under a name of its own.
  H5Pset_file_locking(access, false, true);
  return access;
}

[[noreturn]] void refuse_to_open(const fs::path& path) {
  const std::string reason = hdf5_reason();
  MOESAIC_VALIDATE(fs::exists(path), "{}: no such file (it was to be read as HDF5); check the path", path.string());
  MOESAIC_VALIDATE(H5Fis_hdf5(path.c_str()) > 0,
                   "{}: not an HDF5 file (damaged, or cut short before it was closed); name another", path.string());
  throw InputError(
      fmt::format("{}: cannot be opened (HDF5: {}; its writer may have died before closing it); name another",
                  path.string(), reason));
}

herr_t collect_arrays(hid_t, const char* name, const H5O_info_t* info, void* names) {
  if (info->type == H5O_TYPE_DATASET)
    static_cast<std::vector<std::string>*>(names)->push_back(fmt::format("/{}", name));
  return 0;
}

Shape shape_of_space(hid_t space) {
  std::vector<hsize_t> extents(static_cast<std::size_t>(std::max(H5Sget_simple_extent_ndims(space), 0)));
  H5Sget_simple_extent_dims(space, extents.data(), nullptr);
  return Shape(extents.begin(), extents.end());
}

}  // namespace

Hdf5File::Hdf5File(fs::path path, MPI_Comm communicator)
    : path_(std::move(path)), exceptions_(std::uncaught_exceptions()) {
  if (communicator != MPI_COMM_NULL) MPI_Comm_dup(communicator, &communicator_);
}

Hdf5File::Hdf5File(Hdf5File&& other) noexcept
    : path_(std::move(other.path_)), communicator_(std::exchange(other.communicator_, MPI_COMM_NULL)),
      file_(std::exchange(other.file_, -1)), transfer_limit_(other.transfer_limit_), exceptions_(other.exceptions_) {}

Hdf5File::~Hdf5File() {
  const auto turn = lock_hdf5();
  if (file_ < 0 || (parallel() && std::uncaught_exceptions() > exceptions_)) return;
  H5Fclose(file_);
  if (parallel()) MPI_Comm_free(&communicator_);
}

Hdf5File Hdf5File::create(const fs::path& path, MPI_Comm communicator) {
  const auto turn = lock_hdf5();
  Hdf5File file(path, communicator);
  const Hdf5Handle access = file_access(file.communicator_);
  file.file_ = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
  if (file.file_ >= 0) return file;
  throw RunError(fmt::format("{}: cannot be created (HDF5: {}); check that the folder exists and may be written",
                             path.string(), hdf5_reason()));
}

Hdf5File Hdf5File::open(const fs::path& path, MPI_Comm communicator) {
  const auto turn = lock_hdf5();
  Hdf5File file(path, communicator);
  const Hdf5Handle access = file_access(file.communicator_);
  file.file_ = H5Fopen(path.c_str(), H5F_ACC_RDONLY, access);
  if (file.file_ < 0) refuse_to_open(path);
  return file;
}

Hdf5File Hdf5File::create_serial(const fs::path& path) { return create(path, MPI_COMM_NULL); }

Hdf5File Hdf5File::open_serial(const fs::path& path) { return open(path, MPI_COMM_NULL); }

bool Hdf5File::contains(std::string_view name) const {
  const auto turn = lock_hdf5();
  return name == "/" || H5Lexists(file_, std::string(name).c_str(), H5P_DEFAULT) > 0;
}

Hdf5Array Hdf5File::array(std::string_view name) const {
  const auto turn = lock_hdf5();
  const Hdf5Handle dataset(H5Dopen2(file_, std::string(name).c_str(), H5P_DEFAULT), H5Dclose);
  MOESAIC_VALIDATE(dataset.valid(), "{}: no array '{}' in it; is it the right file?", path_.string(), name);
  const Hdf5Handle type(H5Dget_type(dataset), H5Tclose), space(H5Dget_space(dataset), H5Sclose);
  const Hdf5Handle layout(H5Dget_create_plist(dataset), H5Pclose);
  Hdf5Array array{std::string(name), storage_type_of(type), shape_of_space(space), std::nullopt};
  const haddr_t offset = H5Dget_offset(dataset);
  const bool contiguous = H5Pget_layout(layout) == H5D_CONTIGUOUS && H5Pget_external_count(layout) == 0;
  if (contiguous && offset != HADDR_UNDEF && array.type && is_little_endian(type)) {
    array.offset = static_cast<std::int64_t>(offset);
  }
  return array;
}

std::vector<Hdf5Array> Hdf5File::arrays() const {
  const auto turn = lock_hdf5();
  std::vector<std::string> names;
  check_hdf5(H5Ovisit2(file_, H5_INDEX_NAME, H5_ITER_INC, collect_arrays, &names, H5O_INFO_BASIC), path_.string(),
             "listing the arrays");
  std::sort(names.begin(), names.end());
  std::vector<Hdf5Array> arrays;
  for (const std::string& name : names) arrays.push_back(array(name));
  return arrays;
}

void Hdf5File::flush() {
  const auto turn = lock_hdf5();
  check_hdf5(H5Fflush(file_, H5F_SCOPE_GLOBAL), path_.string(), "flushing");
}

void Hdf5File::sync() {
  flush();
  sync_path(path_);
}

void Hdf5File::close() {
  const auto turn = lock_hdf5();
  if (file_ < 0) return;
  const herr_t status = H5Fclose(std::exchange(file_, -1));
  if (parallel()) MPI_Comm_free(&communicator_);
  check_hdf5(status, path_.string(), "closing");
}

void Hdf5File::limit_transfers(std::int64_t bytes) {
  MOESAIC_EXPECT(bytes > 0);
  transfer_limit_ = bytes;
}

bool Hdf5File::is_first_rank() const {
  int rank = 0;
  if (parallel()) MPI_Comm_rank(communicator_, &rank);
  return rank == 0;
}

}  // namespace moesaic
