# Compile options of our own code, and one function a kind of target.

# moesaic_options: what whoever includes our headers needs too.
add_library(moesaic_options INTERFACE)
target_compile_features(moesaic_options INTERFACE cxx_std_20)
target_include_directories(moesaic_options INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
if(MOESAIC_CUDA)
  target_compile_definitions(moesaic_options INTERFACE MOESAIC_CUDA)
endif()
if(MOESAIC_SANITIZE)
  target_compile_definitions(moesaic_options INTERFACE MOESAIC_DEBUG)
  target_compile_options(moesaic_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined>)
  target_link_options(moesaic_options INTERFACE -fsanitize=address,undefined)
endif()

# moesaic_warnings: how our own files are compiled. No unsafe mathematics: losses that are NaN must be seen.
add_library(moesaic_warnings INTERFACE)
target_compile_options(moesaic_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -fno-math-errno>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
if(MOESAIC_MARCH)
  target_compile_options(moesaic_warnings INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=${MOESAIC_MARCH}>)
endif()

# moesaic_room(<room> [USES <targets>...]): the static library of one room: its folder, reference/ and families/, and
# cuda/ in a CUDA build. CONFIGURE_DEPENDS: the folders are regular, so a new file needs no second mention here.
function(moesaic_room room)
  cmake_parse_arguments(ROOM "" "" "USES" ${ARGN})
  set(folder ${CMAKE_CURRENT_SOURCE_DIR}/${room})
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cpp ${folder}/reference/*.cpp ${folder}/families/*.cpp)
  list(REMOVE_ITEM sources ${folder}/main.cpp)
  if(MOESAIC_CUDA)
    file(GLOB cuda_sources CONFIGURE_DEPENDS ${folder}/cuda/*.cpp ${folder}/cuda/*.cu)
    list(APPEND sources ${cuda_sources})
  endif()
  if(NOT sources)
    add_library(moesaic_${room} INTERFACE)
    target_link_libraries(moesaic_${room} INTERFACE moesaic_options ${ROOM_USES})
    return()
  endif()
  add_library(moesaic_${room} STATIC ${sources})
  target_link_libraries(moesaic_${room} PUBLIC moesaic_options ${ROOM_USES} PRIVATE $<BUILD_INTERFACE:moesaic_warnings>)
  if(cuda_sources)
    target_link_libraries(moesaic_${room} PRIVATE cuda_libraries)
  endif()
endfunction()

# moesaic_family_table(<table> <files>...): writes the source file <table> that lists the families of <files>, each of which
# defines a function of its own name (include/moesaic/models/family.hpp).
function(moesaic_family_table table)
  foreach(file ${ARGN})
    get_filename_component(name ${file} NAME_WE)
    string(APPEND declarations "ModelFamily ${name}();\n")
    list(APPEND calls "${name}()")
  endforeach()
  string(REPLACE ";" ", " calls "${calls}")
  configure_file(${PROJECT_SOURCE_DIR}/cmake/families.cpp.in ${table} @ONLY)
endfunction()

# Open MPI on any machine: more ranks than cores, as root in a container, waiting ranks give up their core.
set(MOESAIC_TEST_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
  OMP_WAIT_POLICY=passive)
if(MOESAIC_SANITIZE)  # MPI keeps memory to the end of the process: not a leak of ours.
  list(APPEND MOESAIC_TEST_ENVIRONMENT ASAN_OPTIONS=detect_leaks=0)
endif()

# moesaic_add_test(<name> LABEL unit|mpi|gpu|slurm PROCESSORS <n> THREADS <n> COMMAND ...): what all tests share.
# Exit status 77: skipped, the reason was printed.
function(moesaic_add_test name)
  cmake_parse_arguments(TEST "" "LABEL;PROCESSORS;THREADS" "COMMAND" ${ARGN})
  add_test(NAME ${name} COMMAND ${TEST_COMMAND})
  set_tests_properties(${name} PROPERTIES LABELS ${TEST_LABEL} PROCESSORS ${TEST_PROCESSORS} TIMEOUT 600
    SKIP_RETURN_CODE 77 ENVIRONMENT "${MOESAIC_TEST_ENVIRONMENT};OMP_NUM_THREADS=${TEST_THREADS}")
endfunction()

# moesaic_test(<source> <room> LABEL unit|mpi|gpu [RANKS <n>...]): one GoogleTest executable a file, one CTest test a
# number of ranks.
function(moesaic_test source room)
  cmake_parse_arguments(TEST "" "LABEL" "RANKS" ${ARGN})
  get_filename_component(stem ${source} NAME_WE)
  set(target ${room}_${stem})
  add_executable(${target} ${source})
  target_link_libraries(${target} PRIVATE moesaic_${room} moesaic_warnings moesaic_test_main)
  target_compile_definitions(${target} PRIVATE
    MOESAIC_SOURCE_DIR="${PROJECT_SOURCE_DIR}" MOESAIC_GOLDEN="${PROJECT_SOURCE_DIR}/tests/golden")
  if(TEST_LABEL STREQUAL gpu)
    target_link_libraries(${target} PRIVATE cuda_libraries)
  endif()
  if(NOT TEST_RANKS)
    moesaic_add_test(${room}/${stem} LABEL ${TEST_LABEL} PROCESSORS 1 THREADS 2 COMMAND ${target})
  endif()
  foreach(ranks ${TEST_RANKS})
    moesaic_add_test(${room}/${stem}/${ranks} LABEL ${TEST_LABEL} PROCESSORS ${ranks} THREADS 1
      COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks} ${MPIEXEC_PREFLAGS} $<TARGET_FILE:${target}>)
  endforeach()
endfunction()
