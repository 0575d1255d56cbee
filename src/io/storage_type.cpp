#include "moesaic/io/storage_type.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "moesaic/base/contract.hpp"

namespace moesaic {
static_assert(std::endian::native == std::endian::little, "files hold little-endian numbers, read as they are");

namespace {

struct TypeRow {
  StorageType type;
  std::string_view name;
  std::int64_t bytes;
};

constexpr std::array<TypeRow, 16> type_table{{
    {StorageType::f64, "F64", 8},
    {StorageType::f32, "F32", 4},
    {StorageType::f16, "F16", 2},
    {StorageType::bf16, "BF16", 2},
    {StorageType::f8_e4m3, "F8_E4M3", 1},
    {StorageType::f8_e5m2, "F8_E5M2", 1},
    {StorageType::f8_e8m0, "F8_E8M0", 1},
    {StorageType::i64, "I64", 8},
    {StorageType::u64, "U64", 8},
    {StorageType::i32, "I32", 4},
    {StorageType::u32, "U32", 4},
    {StorageType::i16, "I16", 2},
    {StorageType::u16, "U16", 2},
    {StorageType::i8, "I8", 1},
    {StorageType::u8, "U8", 1},
    {StorageType::boolean, "BOOL", 1},
}};

/// IEEE half precision, as stored.
struct half {
  std::uint16_t bits;
};

/// value = (-1)^sign * 2^(exponent - 15) * 1.mantissa; subnormals are mantissa * 2^-24.
float widen(half value) {
  const int exponent = (value.bits >> 10) & 0x1f, mantissa = value.bits & 0x3ff;
  float magnitude = 0;
  if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  } else if (exponent < 31) {
    magnitude = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  } else {
    magnitude = mantissa == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  }
  return (value.bits & 0x8000) != 0 ? -magnitude : magnitude;
}

/// Rounded to nearest, ties to even.
half narrow(float value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return {static_cast<std::uint16_t>(sign | 0x7e00)};
  if (magnitude >= 65520) return {static_cast<std::uint16_t>(sign | 0x7c00)};  // half a step beyond the largest
  int exponent = 0;
  std::frexp(magnitude, &exponent);  // magnitude is below 2^exponent
  if (magnitude == 0) return {sign};
  const int step = std::max(exponent - 11, -24);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -step)));  // exact but for the rounding
  return {static_cast<std::uint16_t>(sign + ((step + 24) << 10) + steps)};
}

float widen(bf16 value) { return to_float(value); }
template <class Number> Number widen(Number value) { return value; }

template <class Stored, class T> void convert_from(const void* source, std::int64_t count, T* out) {
  const auto* bytes = static_cast<const char*>(source);
  for (std::int64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, bytes + i * static_cast<std::int64_t>(sizeof value), sizeof value);
    out[i] = static_cast<T>(widen(value));
  }
}

template <class T> void convert_floating(StorageType type, const void* source, std::int64_t count, T* out) {
  switch (type) {
    case StorageType::f64: return convert_from<double>(source, count, out);
    case StorageType::f32: return convert_from<float>(source, count, out);
    case StorageType::f16: return convert_from<half>(source, count, out);
    default: return convert_from<bf16>(source, count, out);
  }
}

void convert_integers(StorageType type, const void* source, std::int64_t count, std::int64_t* out) {
  switch (type) {
    case StorageType::i64: return convert_from<std::int64_t>(source, count, out);
    case StorageType::i32: return convert_from<std::int32_t>(source, count, out);
    case StorageType::u32: return convert_from<std::uint32_t>(source, count, out);
    case StorageType::i16: return convert_from<std::int16_t>(source, count, out);
    case StorageType::u16: return convert_from<std::uint16_t>(source, count, out);
    case StorageType::i8: return convert_from<std::int8_t>(source, count, out);
    default: return convert_from<std::uint8_t>(source, count, out);
  }
}

template <class Conversion>
void convert_each(const float* source, std::int64_t count, void* out, const Conversion& conversion) {
  auto* bytes = static_cast<char*>(out);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto value = conversion(source[i]);
    std::memcpy(bytes + i * static_cast<std::int64_t>(sizeof value), &value, sizeof value);
  }
}

const TypeRow& row_of(StorageType type) { return type_table[static_cast<std::size_t>(type)]; }

}  // namespace

std::int64_t size_of(StorageType type) { return row_of(type).bytes; }

std::string_view name_of(StorageType type) { return row_of(type).name; }

std::optional<StorageType> storage_type_named(std::string_view name) {
  for (const TypeRow& row : type_table) {
    if (row.name == name) return row.type;
  }
  return std::nullopt;
}

StorageType stored(DType type) {
  switch (type) {
    case DType::f64: return StorageType::f64;
    case DType::f32: return StorageType::f32;
    case DType::bf16: return StorageType::bf16;
    case DType::i64: return StorageType::i64;
    case DType::i32: return StorageType::i32;
    case DType::u8: break;
  }
  return StorageType::u8;
}

template <class T> bool converts_to(StorageType type) {
  const bool floating =
      type == StorageType::f64 || type == StorageType::f32 || type == StorageType::f16 || type == StorageType::bf16;
  if constexpr (std::is_floating_point_v<T>) return floating;
  const bool eight_bits = type == StorageType::f8_e4m3 || type == StorageType::f8_e5m2 || type == StorageType::f8_e8m0;
  return !floating && !eight_bits && type != StorageType::u64;
}

template <class T> void convert(StorageType type, const void* source, std::int64_t count, T* out) {
  MOESAIC_EXPECT(converts_to<T>(type));
  if constexpr (std::is_floating_point_v<T>) {
    convert_floating(type, source, count, out);
  } else {
    convert_integers(type, source, count, out);
  }
}

void convert_back(StorageType type, const float* source, std::int64_t count, void* out) {
  MOESAIC_EXPECT(converts_to<float>(type));
  switch (type) {
    case StorageType::f64: return convert_each(source, count, out, [](float x) { return static_cast<double>(x); });
    case StorageType::f32: return convert_each(source, count, out, [](float x) { return x; });
    case StorageType::f16: return convert_each(source, count, out, narrow);
    default: return convert_each(source, count, out, to_bf16);
  }
}

template bool converts_to<float>(StorageType);
template bool converts_to<double>(StorageType);
template bool converts_to<std::int64_t>(StorageType);
template void convert(StorageType, const void*, std::int64_t, float*);
template void convert(StorageType, const void*, std::int64_t, double*);
template void convert(StorageType, const void*, std::int64_t, std::int64_t*);

}  // namespace moesaic
