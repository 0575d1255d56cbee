# Everything moesaic uses from outside, found once: by the build, and again by find_package(moesaic) of those who link the
# library, so the targets made here are IMPORTED. tools/packages.txt names the Debian packages.
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
set(MPI_CXX_SKIP_MPICXX TRUE)  # the C interface is enough
find_package(MPI REQUIRED COMPONENTS CXX)

set(HDF5_PREFER_PARALLEL ON)
find_package(HDF5 REQUIRED COMPONENTS C)
if(NOT HDF5_IS_PARALLEL)
  message(FATAL_ERROR "HDF5 ${HDF5_VERSION} was found without MPI (checkpoints are one file written by all ranks); "
                      "install the parallel HDF5 (Debian: libhdf5-openmpi-dev, Spack: hdf5+mpi)")
endif()
# The find module's own target does not carry the parallel build's headers everywhere: this one does.
add_library(hdf5_mpi INTERFACE IMPORTED)
target_include_directories(hdf5_mpi SYSTEM INTERFACE ${HDF5_C_INCLUDE_DIRS})
target_link_libraries(hdf5_mpi INTERFACE ${HDF5_C_LIBRARIES})

find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt REQUIRED)

set(BLA_VENDOR OpenBLAS)
find_package(BLAS REQUIRED)
find_path(OPENBLAS_INCLUDE_DIR cblas.h REQUIRED
  PATH_SUFFIXES openblas ${CMAKE_LIBRARY_ARCHITECTURE} openblas-openmp ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp)
add_library(openblas INTERFACE IMPORTED)
target_include_directories(openblas SYSTEM INTERFACE ${OPENBLAS_INCLUDE_DIR})
target_link_libraries(openblas INTERFACE BLAS::BLAS)

if(MOESAIC_TESTS)
  find_package(GTest REQUIRED)
endif()
if(MOESAIC_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

if(MOESAIC_CUDA)
  set(CMAKE_CUDA_ARCHITECTURES 90a CACHE STRING "CUDA architectures")
  enable_language(CUDA)
  find_package(CUDAToolkit 12.4 REQUIRED)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
  find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDAToolkit_INCLUDE_DIRS} REQUIRED)
  find_library(CUDNN_LIBRARY cudnn HINTS ${CUDAToolkit_LIBRARY_DIR} REQUIRED)
  add_library(cuda_libraries INTERFACE IMPORTED)
  target_include_directories(cuda_libraries SYSTEM INTERFACE ${NCCL_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
  target_link_libraries(cuda_libraries INTERFACE
    CUDA::cudart CUDA::cublas CUDA::cublasLt ${CUDNN_LIBRARY} ${NCCL_LIBRARY})
  # As an option: CMake 3.25 does not know yet that nvcc speaks C++20.
  target_compile_options(cuda_libraries INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
endif()
