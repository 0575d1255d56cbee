#pragma once
/// Writing token files of data.format = rows.

#include <cstdint>
#include <filesystem>
#include <vector>

#include "moesaic/io/hdf5_file.hpp"

namespace moesaic {

/// Contents of a rows file: flat [rows, columns], columns = sequence + 1. Empty mask or documents: not written.
struct RowsContents {
  std::int64_t columns = 0;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint8_t> loss_mask = {};
  std::vector<std::int32_t> documents = {};
};

template <class T>
void write_rows_array(Hdf5File& file, const char* name, const std::vector<T>& values, std::int64_t columns) {
  const std::int64_t count = std::ssize(values);
  const Block all{0, count};
  file.create_array(name, dtype_of<T>::value, {count / columns, columns});
  file.write_flat(name, {&all, 1}, host_view(values.data(), {count}));
}

/// For one process; contiguous arrays.
inline void write_rows_file(const std::filesystem::path& path, const RowsContents& contents) {
  Hdf5File file = Hdf5File::create_serial(path);
  write_rows_array(file, "/tokens", contents.tokens, contents.columns);
  if (!contents.loss_mask.empty()) write_rows_array(file, "/loss_mask", contents.loss_mask, contents.columns);
  if (!contents.documents.empty()) write_rows_array(file, "/document", contents.documents, contents.columns);
  file.close();
}

}  // namespace moesaic
