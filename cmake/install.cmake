# cmake --install <build> --prefix <where>: the command line tool, the public headers, one static library of all
# modules, and the package files that let others write find_package(llamita) and link llamita::llamita.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(llamita_targets DIRECTORY ${CMAKE_SOURCE_DIR} PROPERTY BUILDSYSTEM_TARGETS)
add_library(llamita_library STATIC)
foreach(target ${llamita_targets})
  get_target_property(type ${target} TYPE)
  if(target MATCHES "^llamita_" AND type STREQUAL "STATIC_LIBRARY")
    target_sources(llamita_library PRIVATE $<TARGET_OBJECTS:${target}>)
  endif()
endforeach()
set_target_properties(llamita_library PROPERTIES OUTPUT_NAME llamita EXPORT_NAME llamita LINKER_LANGUAGE CXX)
target_compile_features(llamita_library INTERFACE cxx_std_20)
target_include_directories(llamita_library INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# Defined by llamitaConfig.cmake, which finds the archives on the user's machine.
target_link_libraries(llamita_library INTERFACE ${CMAKE_DL_LIBS} $<INSTALL_INTERFACE:llamita::pcre2>
                      $<INSTALL_INTERFACE:llamita::utf8proc> $<INSTALL_INTERFACE:llamita::png>
                      $<INSTALL_INTERFACE:llamita::zlib> $<INSTALL_INTERFACE:llamita::jpeg>
                      $<INSTALL_INTERFACE:llamita::webpdemux> $<INSTALL_INTERFACE:llamita::webp>)

set(llamita_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/llamita)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/llamitaConfig.cmake.in
                              ${CMAKE_BINARY_DIR}/llamitaConfig.cmake INSTALL_DESTINATION ${llamita_package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/llamitaConfigVersion.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS llamita_library EXPORT llamitaTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT llamitaTargets NAMESPACE llamita:: DESTINATION ${llamita_package_dir})
install(FILES ${CMAKE_BINARY_DIR}/llamitaConfig.cmake ${CMAKE_BINARY_DIR}/llamitaConfigVersion.cmake
        DESTINATION ${llamita_package_dir})
install(DIRECTORY ${CMAKE_SOURCE_DIR}/include/llamita DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
if(TARGET llamita)
  install(TARGETS llamita RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
