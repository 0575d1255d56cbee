#include "hdf5_support.hpp"

#include "moesaic/base/contract.hpp"

namespace moesaic {
namespace {

herr_t take_description(unsigned, const H5E_error2_t* error, void* reason) {
  if (error->desc != nullptr && *error->desc != '\0') *static_cast<std::string*>(reason) = error->desc;
  return 0;
}

/// bfloat16 for HDF5: sign 1, exponent 8 (bias 127), mantissa 7 bits.
Hdf5Handle bf16_type() {
  Hdf5Handle type(H5Tcopy(H5T_IEEE_F32LE), H5Tclose);
  H5Tset_fields(type, 15, 7, 8, 0, 7);
  H5Tset_size(type, 2);
  return type;
}

std::optional<StorageType> floating_type(hid_t type) {
  switch (H5Tget_size(type)) {
    case 8: return StorageType::f64;
    case 4: return StorageType::f32;
    case 2: return H5Tget_ebias(type) == 127 ? StorageType::bf16 : StorageType::f16;
    default: return std::nullopt;
  }
}

std::optional<StorageType> integer_type(hid_t type) {
  const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
  switch (H5Tget_size(type)) {
    case 8: return is_signed ? StorageType::i64 : StorageType::u64;
    case 4: return is_signed ? StorageType::i32 : StorageType::u32;
    case 2: return is_signed ? StorageType::i16 : StorageType::u16;
    case 1: return is_signed ? StorageType::i8 : StorageType::u8;
    default: return std::nullopt;
  }
}

}  // namespace

std::unique_lock<std::recursive_mutex> lock_hdf5() {
  static std::recursive_mutex mutex;
  return std::unique_lock(mutex);
}

void silence_hdf5() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

std::string hdf5_reason() {
  std::string reason = "HDF5 gives no reason";
  // Downward ends with the innermost function, whose message says most.
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, take_description, &reason);
  return reason;
}

void check_hdf5(std::int64_t status, const std::string& path, const std::string& action) {
  if (status >= 0) return;
  throw RunError(
      fmt::format("{}: {} failed (HDF5: {}); check the disk and the free space", path, action, hdf5_reason()));
}

Hdf5Handle hdf5_type(DType type) {
  switch (type) {
    case DType::f64: return {H5Tcopy(H5T_IEEE_F64LE), H5Tclose};
    case DType::f32: return {H5Tcopy(H5T_IEEE_F32LE), H5Tclose};
    case DType::bf16: return bf16_type();
    case DType::i64: return {H5Tcopy(H5T_STD_I64LE), H5Tclose};
    case DType::i32: return {H5Tcopy(H5T_STD_I32LE), H5Tclose};
    case DType::u8: break;
  }
  return {H5Tcopy(H5T_STD_U8LE), H5Tclose};
}

std::optional<StorageType> storage_type_of(hid_t type) {
  switch (H5Tget_class(type)) {
    case H5T_FLOAT: return floating_type(type);
    case H5T_INTEGER: return integer_type(type);
    // h5py stores booleans as an enumeration of one byte.
    case H5T_ENUM: return H5Tget_size(type) == 1 ? std::optional(StorageType::boolean) : std::nullopt;
    default: return std::nullopt;
  }
}

bool is_little_endian(hid_t type) { return H5Tget_size(type) == 1 || H5Tget_order(type) == H5T_ORDER_LE; }

}  // namespace moesaic
