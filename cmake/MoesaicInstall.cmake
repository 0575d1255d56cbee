# `cmake --install build/PRESET --prefix DIR`: a tree that can be moved as a whole. bin/moesaic; share/moesaic: the decks,
# job scripts and site settings, what there is to read; include, lib and lib/cmake/moesaic: the library, for
# find_package(moesaic) and the target moesaic::moesaic.
include(CMakePackageConfigHelpers)

install(TARGETS moesaic RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY inputs slurm docs DESTINATION ${CMAKE_INSTALL_DATADIR}/moesaic USE_SOURCE_PERMISSIONS)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY include/moesaic ${MOESAIC_GENERATED_DIR}/moesaic DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN *.hpp PATTERN *.cuh)

# The program has the name moesaic, so the library of all rooms has another one here.
add_library(moesaic_library INTERFACE)
target_link_libraries(moesaic_library INTERFACE moesaic_app)
set_target_properties(moesaic_library PROPERTIES EXPORT_NAME moesaic)
foreach(room options build_info base tensor grid comm io kernels layers models parallel optim data checkpoint train app)
  set_target_properties(moesaic_${room} PROPERTIES EXPORT_NAME ${room})
  list(APPEND rooms moesaic_${room})
endforeach()
install(TARGETS moesaic_library ${rooms} EXPORT moesaicTargets)

set(folder ${CMAKE_INSTALL_LIBDIR}/cmake/moesaic)
install(EXPORT moesaicTargets NAMESPACE moesaic:: DESTINATION ${folder})
configure_package_config_file(cmake/moesaicConfig.cmake.in ${PROJECT_BINARY_DIR}/moesaicConfig.cmake
  INSTALL_DESTINATION ${folder} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moesaicConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moesaicConfig.cmake ${PROJECT_BINARY_DIR}/moesaicConfigVersion.cmake
  cmake/MoesaicDependencies.cmake DESTINATION ${folder})
