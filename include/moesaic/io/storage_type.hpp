#pragma once
/// Element types that files hold: more than tensors in memory have (DType), so reading converts.

#include <cstdint>
#include <optional>
#include <string_view>

#include "moesaic/tensor/dtype.hpp"

namespace moesaic {

enum class StorageType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  i64,
  u64,
  i32,
  u32,
  i16,
  u16,
  i8,
  u8,
  boolean,
};

/// Bytes of one element.
std::int64_t size_of(StorageType type);
/// The name in safetensors headers, e.g. "BF16".
std::string_view name_of(StorageType type);
/// The type that a safetensors header calls `name`; nothing when there is none.
std::optional<StorageType> storage_type_named(std::string_view name);
/// How a tensor's type is stored.
StorageType stored(DType type);

/// Whether elements of `type` can be read as T: float and double from f64, f32, f16 and bf16; std::int64_t from every
/// integer and boolean type but u64.
template <class T> bool converts_to(StorageType type);

/// out [count] = the elements at `source`, which need not be aligned. Exact but for f64 to float, which rounds.
/// `converts_to<T>(type)` must hold.
template <class T> void convert(StorageType type, const void* source, std::int64_t count, T* out);

/// The reverse: `count` elements of `type`, to which float must convert, at `out`, which need not be aligned; rounded to
/// nearest, ties to even.
void convert_back(StorageType type, const float* source, std::int64_t count, void* out);

}  // namespace moesaic
