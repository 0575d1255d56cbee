#include "hdf5_support.hpp"
#include "moesaic/base/contract.hpp"
#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {
namespace {

/// An attribute that is there, with what its reader has to know.
struct Attribute {
  Hdf5Handle id, type;
};

Attribute open_attribute(hid_t file, const std::string& path, std::string_view object, std::string_view key) {
  Hdf5Handle id(H5Aopen_by_name(file, std::string(object).c_str(), std::string(key).c_str(), H5P_DEFAULT, H5P_DEFAULT),
                H5Aclose);
  MOESAIC_VALIDATE(id.valid(), "{}: '{}' has no attribute '{}'; is it the right file?", path, object, key);
  Hdf5Handle type(H5Aget_type(id), H5Tclose);
  return {std::move(id), std::move(type)};
}

/// One value, replacing an older one.
void set_value(hid_t object, const std::string& path, const std::string& key, hid_t type, const void* value) {
  if (H5Aexists(object, key.c_str()) > 0) H5Adelete(object, key.c_str());
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(H5Acreate2(object, key.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  check_hdf5(attribute, path, fmt::format("creating attribute '{}'", key));
  check_hdf5(H5Awrite(attribute, type, value), path, fmt::format("writing attribute '{}'", key));
}

/// A text of fixed length: variable ones live in a heap without checksum. No text has length 0 in HDF5.
Hdf5Handle text_type(std::size_t length) {
  Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type, length == 0 ? 1 : length);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  return type;
}

template <class T>
T get_value(const Attribute& attribute, const std::string& path, std::string_view key, H5T_class_t expected,
            hid_t type) {
  T value{};
  MOESAIC_VALIDATE(H5Tget_class(attribute.type) == expected && H5Aread(attribute.id, type, &value) >= 0,
                   "{}: attribute '{}' has another type than {}; is it the right file?", path, key,
                   expected == H5T_INTEGER ? "an integer" : "a floating number");
  return value;
}

}  // namespace

std::int64_t Hdf5File::open_or_make(std::string_view object) {
  const std::string name(object);
  if (contains(name)) return H5Oopen(file_, name.c_str(), H5P_DEFAULT);
  const Hdf5Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
  H5Pset_create_intermediate_group(links, 1);
  const hid_t group = H5Gcreate2(file_, name.c_str(), links, H5P_DEFAULT, H5P_DEFAULT);
  check_hdf5(group, path_.string(), fmt::format("creating group '{}'", name));
  return group;
}

void Hdf5File::set_integer(std::string_view object, std::string_view key, std::int64_t value) {
  const auto turn = lock_hdf5();
  const Hdf5Handle owner(open_or_make(object), H5Oclose);
  set_value(owner, path_.string(), std::string(key), H5T_STD_I64LE, &value);
}

void Hdf5File::set_number(std::string_view object, std::string_view key, double value) {
  const auto turn = lock_hdf5();
  const Hdf5Handle owner(open_or_make(object), H5Oclose);
  set_value(owner, path_.string(), std::string(key), H5T_IEEE_F64LE, &value);
}

void Hdf5File::set_text(std::string_view object, std::string_view key, std::string_view value) {
  const auto turn = lock_hdf5();
  const Hdf5Handle owner(open_or_make(object), H5Oclose);
  const std::string terminated(value);
  set_value(owner, path_.string(), std::string(key), text_type(value.size()), terminated.c_str());
}

bool Hdf5File::has_attribute(std::string_view object, std::string_view key) const {
  const auto turn = lock_hdf5();
  return contains(object) &&
         H5Aexists_by_name(file_, std::string(object).c_str(), std::string(key).c_str(), H5P_DEFAULT) > 0;
}

std::int64_t Hdf5File::integer(std::string_view object, std::string_view key) const {
  const auto turn = lock_hdf5();
  const Attribute attribute = open_attribute(file_, path_.string(), object, key);
  return get_value<std::int64_t>(attribute, path_.string(), key, H5T_INTEGER, H5T_NATIVE_INT64);
}

double Hdf5File::number(std::string_view object, std::string_view key) const {
  const auto turn = lock_hdf5();
  const Attribute attribute = open_attribute(file_, path_.string(), object, key);
  return get_value<double>(attribute, path_.string(), key, H5T_FLOAT, H5T_NATIVE_DOUBLE);
}

std::string Hdf5File::text(std::string_view object, std::string_view key) const {
  const auto turn = lock_hdf5();
  const Attribute attribute = open_attribute(file_, path_.string(), object, key);
  MOESAIC_VALIDATE(H5Tget_class(attribute.type) == H5T_STRING && H5Tis_variable_str(attribute.type) == 0,
                   "{}: attribute '{}' is no text of fixed length; is it the right file?", path_.string(), key);
  std::string value(H5Tget_size(attribute.type), '\0');
  check_hdf5(H5Aread(attribute.id, attribute.type, value.data()), path_.string(),
             fmt::format("reading attribute '{}'", key));
  value.resize(value.find_last_not_of('\0') + 1);
  return value;
}

}  // namespace moesaic
