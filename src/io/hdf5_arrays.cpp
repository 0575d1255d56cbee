#include <algorithm>
#include <array>

#include "hdf5_support.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/flat_ranges.hpp"
#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {
namespace {

std::vector<hsize_t> hdf5_extents(const Shape& shape) { return {shape.begin(), shape.end()}; }

Hdf5Handle space_of(const Shape& shape) {
  if (shape.empty()) return {H5Screate(H5S_SCALAR), H5Sclose};
  return {H5Screate_simple(static_cast<int>(shape.size()), hdf5_extents(shape).data(), nullptr), H5Sclose};
}

/// The elements of `ranges` in an array's space; HDF5 visits them in row-major order.
Hdf5Handle select_in_file(const Shape& shape, std::span<const Block> ranges) {
  Hdf5Handle space = space_of(shape);
  if (shape.empty() && total_size(ranges) == 1) return space;
  H5Sselect_none(space);
  if (shape.empty()) return space;
  for (Block range : ranges) {
    for (const Slab& slab : slabs_of(shape, range)) {
      H5Sselect_hyperslab(space, H5S_SELECT_OR, hdf5_extents(slab.start).data(), nullptr,
                          hdf5_extents(slab.count).data(), nullptr);
    }
  }
  return space;
}

Hdf5Handle select_in_memory(std::int64_t count) {
  Hdf5Handle space = space_of({std::max<std::int64_t>(count, 1)});
  if (count == 0) H5Sselect_none(space);
  return space;
}

Hdf5Handle transfer_list(bool collective) {
  Hdf5Handle list(H5Pcreate(H5P_DATASET_XFER), H5Pclose);
  if (collective) H5Pset_dxpl_mpio(list, H5FD_MPIO_COLLECTIVE);
  return list;
}

bool ascending_within(std::span<const Block> ranges, std::int64_t size) {
  std::int64_t end = 0;
  for (Block range : ranges) {
    if (range.begin < end || range.end < range.begin) return false;
    end = range.end;
  }
  return end <= size;
}

/// Why the ranges and values do not fit the array; empty when they do.
std::string misfit(const Hdf5Array& array, std::span<const Block> ranges, ConstView values) {
  if (array.type != stored(values.dtype())) {
    return fmt::format("'{}' holds {}, not {} (nothing is converted); is it the right file?", array.name,
                       array.type ? name_of(*array.type) : "another type", name_of(values.dtype()));
  }
  if (!ascending_within(ranges, array.size())) {
    return fmt::format(
        "'{}' has the shape {}, but elements beyond it, or out of order, are asked for; is it the right "
        "file?",
        array.name, to_text(array.shape));
  }
  const std::int64_t held = values.empty() ? 0 : values.size(), asked = total_size(ranges);
  if (held == asked && values.contiguous() && values.device() == DeviceKind::cpu) return "";
  return fmt::format(
      "'{}': {} elements in memory for {} of the file (they must be contiguous, in host memory); this is a "
      "defect in moesaic, please report it",
      array.name, held, asked);
}

}  // namespace

void Hdf5File::create_array(std::string_view name, DType type, const Shape& shape) {
  const auto turn = lock_hdf5();
  const Hdf5Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose), layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  H5Pset_layout(layout, H5D_CONTIGUOUS);
  H5Pset_alloc_time(layout, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(layout, H5D_FILL_TIME_NEVER);
  // The same content gives the same file.
  H5Pset_obj_track_times(layout, false);
  const Hdf5Handle dataset(
      H5Dcreate2(file_, std::string(name).c_str(), hdf5_type(type), space_of(shape), links, layout, H5P_DEFAULT),
      H5Dclose);
  check_hdf5(dataset, path_.string(), fmt::format("creating array '{}' {}", name, to_text(shape)));
}

std::int64_t Hdf5File::rounds(std::int64_t count, std::int64_t most, const std::string& problem,
                              bool collective) const {
  std::array<std::int64_t, 2> agreed{(count + most - 1) / most, problem.empty() ? 0 : 1};
  if (collective) MPI_Allreduce(MPI_IN_PLACE, agreed.data(), 2, MPI_INT64_T, MPI_MAX, communicator_);
  MOESAIC_VALIDATE(problem.empty(), "{}: array {}", path_.string(), problem);
  MOESAIC_VALIDATE(agreed[1] == 0, "{}: another rank refused an array (all must take part); see its message",
                   path_.string());
  return agreed[0];
}

void Hdf5File::transfer(std::string_view name, std::span<const Block> ranges, ConstView values, void* out,
                        bool collective) const {
  const auto turn = lock_hdf5();
  const Hdf5Array target = array(name);
  const std::int64_t count = total_size(ranges), bytes = size_of(values.dtype());
  const std::int64_t most = std::max<std::int64_t>(transfer_limit_ / bytes, 1);
  const std::int64_t num_rounds = rounds(count, most, misfit(target, ranges, values), collective);
  const Hdf5Handle dataset(H5Dopen2(file_, target.name.c_str(), H5P_DEFAULT), H5Dclose);
  const Hdf5Handle type = hdf5_type(values.dtype()), list = transfer_list(collective);
  for (std::int64_t round = 0; round < num_rounds; ++round) {
    const Block part{std::min(round * most, count), std::min((round + 1) * most, count)};
    const Hdf5Handle in_file = select_in_file(target.shape, part_of(ranges, part));
    const Hdf5Handle in_memory = select_in_memory(part.size());
    char nothing = 0;  // HDF5 wants an address even for no elements
    const auto* from = part.empty() ? &nothing : static_cast<const char*>(values.raw()) + part.begin * bytes;
    auto* to = out == nullptr || part.empty() ? &nothing : static_cast<char*>(out) + part.begin * bytes;
    const herr_t status = out == nullptr ? H5Dwrite(dataset, type, in_memory, in_file, list, from)
                                         : H5Dread(dataset, type, in_memory, in_file, list, to);
    check_hdf5(status, path_.string(), fmt::format("{} array '{}'", out == nullptr ? "writing" : "reading", name));
  }
}

void Hdf5File::write_flat(std::string_view name, std::span<const Block> ranges, ConstView values) {
  transfer(name, ranges, values, nullptr, parallel());
}

void Hdf5File::read_flat(std::string_view name, std::span<const Block> ranges, View values,
                         Participation participation) const {
  char nothing = 0;
  void* out = values.empty() ? &nothing : values.raw();
  transfer(name, ranges, values, out, parallel() && participation == Participation::collective);
}

std::vector<std::int64_t> Hdf5File::read_integers(std::string_view name, Block range) const {
  const auto turn = lock_hdf5();
  const Hdf5Array source = array(name);
  MOESAIC_VALIDATE(source.type && (converts_to<std::int64_t>(*source.type) || *source.type == StorageType::u64),
                   "{}: array '{}' does not hold integers; store it as an integer type", path_.string(), name);
  MOESAIC_VALIDATE(0 <= range.begin && range.begin <= range.end && range.end <= source.size(),
                   "{}: array '{}' has the shape {}, elements {} to {} are asked for; is it the right file?",
                   path_.string(), name, to_text(source.shape), range.begin, range.end);
  std::vector<std::int64_t> values(static_cast<std::size_t>(range.size()));
  if (values.empty()) return values;
  const Hdf5Handle dataset(H5Dopen2(file_, source.name.c_str(), H5P_DEFAULT), H5Dclose);
  const Hdf5Handle in_file = select_in_file(source.shape, {&range, 1}), in_memory = select_in_memory(range.size());
  check_hdf5(H5Dread(dataset, H5T_NATIVE_INT64, in_memory, in_file, transfer_list(false), values.data()),
             path_.string(), fmt::format("reading array '{}'", name));
  return values;
}

void Hdf5File::write_bytes(std::string_view name, std::string_view bytes) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  create_array(name, DType::u8, {size});
  const Block mine{0, is_first_rank() ? size : 0};
  write_flat(name, {&mine, 1}, host_view(reinterpret_cast<const std::uint8_t*>(bytes.data()), {mine.size()}));
}

std::string Hdf5File::read_bytes(std::string_view name) const {
  const Block all{0, array(name).size()};
  std::string bytes(static_cast<std::size_t>(all.size()), '\0');
  read_flat(name, {&all, 1}, host_view(reinterpret_cast<std::uint8_t*>(bytes.data()), {all.size()}));
  return bytes;
}

}  // namespace moesaic
