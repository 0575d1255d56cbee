#pragma once
/// Functions of the CUDA driver, looked up at run time, so that programs start on machines without one.

#include <cuda.h>

namespace moesaic {

/// The driver's function `name` of CUDA 12; throws RunError that names `purpose` where the driver is older.
void* driver_entry(const char* name, const char* purpose);

/// driver_function<decltype(&cuMemMap)>("cuMemMap", "...").
template <class Function> Function driver_function(const char* name, const char* purpose) {
  return reinterpret_cast<Function>(driver_entry(name, purpose));
}

}  // namespace moesaic
