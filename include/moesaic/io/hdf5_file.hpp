#pragma once
/// HDF5 files written and read by all ranks together, or by one process without MPI.
///
/// Arrays are global: row-major, contiguous in the file, little-endian, without fill values: whoever creates one must
/// write all of it. Groups are made on the way. HDF5 is not thread-safe: threads take turns, one call at a time, so no
/// two threads of a process may be in collective calls.
///
/// Errors: what a user's file can have wrong (missing, no HDF5 file, an absent array, another shape or type) is an
/// InputError, what fails while reading or writing a RunError; both name the path. A parallel file whose owner is
/// destroyed by an exception is abandoned, not closed: closing is collective and would wait for the other ranks.

#include <mpi.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "moesaic/grid/block.hpp"
#include "moesaic/io/shape.hpp"
#include "moesaic/io/storage_type.hpp"
#include "moesaic/tensor/view.hpp"

namespace moesaic {

/// What a file says of one array.
struct Hdf5Array {
  std::string name;                 ///< absolute, e.g. "/parameters/embedding"
  std::optional<StorageType> type;  ///< none: a type that is not read here
  Shape shape;
  std::optional<std::int64_t> offset;  ///< first byte in the file, when contiguous and little-endian

  std::int64_t size() const { return element_count(shape).value_or(0); }
};

/// Who takes part in a read of a parallel file.
enum class Participation : std::uint8_t { collective, independent };

/// Movable. Methods marked "collective" must be called by every rank of a parallel file, in the same order, with the
/// same names, shapes and values; only ranges and data differ.
class Hdf5File {
 public:
  /// A new file, replacing an old one. Collective.
  static Hdf5File create(const std::filesystem::path& path, MPI_Comm communicator);
  /// An existing file, for reading. Collective.
  static Hdf5File open(const std::filesystem::path& path, MPI_Comm communicator);
  /// The same for one process; MPI need not be initialised.
  static Hdf5File create_serial(const std::filesystem::path& path);
  static Hdf5File open_serial(const std::filesystem::path& path);

  Hdf5File(Hdf5File&& other) noexcept;
  Hdf5File& operator=(Hdf5File&&) = delete;
  ~Hdf5File();

  const std::filesystem::path& path() const { return path_; }

  /// Lays out an array; space is taken at once. Collective.
  void create_array(std::string_view name, DType type, const Shape& shape);

  /// Writes elements of the flattened array: `ranges` ascend and do not overlap; `values` holds their elements one
  /// after the other, of the array's type, in host memory. A rank may have none. Collective.
  void write_flat(std::string_view name, std::span<const Block> ranges, ConstView values);
  /// The reverse; collective unless said otherwise.
  void read_flat(std::string_view name, std::span<const Block> ranges, View values,
                 Participation participation = Participation::collective) const;

  /// Elements [range.begin, range.end) of an array of any integer type or layout. Independent.
  std::vector<std::int64_t> read_integers(std::string_view name, Block range) const;

  /// Text or other bytes, as an array of u8; rank 0 writes them. Collective.
  void write_bytes(std::string_view name, std::string_view bytes);
  /// The whole of such an array, on every rank. Collective.
  std::string read_bytes(std::string_view name) const;

  /// Attributes of the group or array `object` ("/" is the root); a missing group is made. Setting is collective.
  void set_integer(std::string_view object, std::string_view key, std::int64_t value);
  void set_number(std::string_view object, std::string_view key, double value);
  void set_text(std::string_view object, std::string_view key, std::string_view value);
  bool has_attribute(std::string_view object, std::string_view key) const;
  std::int64_t integer(std::string_view object, std::string_view key) const;
  double number(std::string_view object, std::string_view key) const;
  std::string text(std::string_view object, std::string_view key) const;

  /// Whether a group or array of that name is there.
  bool contains(std::string_view name) const;
  /// InputError when there is no such array.
  Hdf5Array array(std::string_view name) const;
  /// Every array in the order of names.
  std::vector<Hdf5Array> arrays() const;

  /// Hands everything to the operating system. Collective.
  void flush();
  /// Flushes and waits for the disk. Collective.
  void sync();
  /// Ends the file; it must not be used afterwards. Collective. The destructor does the same but swallows errors.
  void close();

  /// Largest transfer of one rank, in bytes (1 GiB; independent ones fail at 2 GiB). The same on every rank.
  void limit_transfers(std::int64_t bytes);

 private:
  Hdf5File(std::filesystem::path path, MPI_Comm communicator);
  bool parallel() const { return communicator_ != MPI_COMM_NULL; }
  bool is_first_rank() const;
  /// HDF5's identifier of an object that attributes are set on.
  std::int64_t open_or_make(std::string_view object);
  /// How often to transfer, at most `most` elements each: what the rank with most elements needs. Every rank throws
  /// when one has a problem.
  std::int64_t rounds(std::int64_t count, std::int64_t most, const std::string& problem, bool collective) const;
  /// Writes `values`, or reads them into `out` unless that is null.
  void transfer(std::string_view name, std::span<const Block> ranges, ConstView values, void* out,
                bool collective) const;

  std::filesystem::path path_;
  MPI_Comm communicator_ = MPI_COMM_NULL;  ///< our duplicate; null when serial
  std::int64_t file_ = -1;
  std::int64_t transfer_limit_ = std::int64_t{1} << 30;
  int exceptions_ = 0;  ///< under way when this was made
};

}  // namespace moesaic
