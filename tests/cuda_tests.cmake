# llamita_cuda_tests(<folder under tests> <module>...): device code, <folder>/*_test.cu on any card and *_test_sm90.cu on
# compute capability 9.0. Without a card they skip aloud. Their barriers always have a time limit.
function(llamita_cuda_tests folder)
  string(REPLACE "/" "_" name ${folder})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cu
       ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test_sm90.cu)
  if(NOT LLAMITA_HAVE_CUDA OR NOT sources)
    return()
  endif()
  if(TARGET test_${name})
    set(name ${name}_cuda)  # the folder has CPU tests too
  endif()
  add_executable(test_${name})
  set_target_properties(test_${name} PROPERTIES LINKER_LANGUAGE CXX)
  llamita_cuda_objects(test_${name} ${sources})
  foreach(module ${ARGN})
    string(REPLACE "/" "_" module ${module})
    target_link_libraries(test_${name} PRIVATE llamita_${module})
  endforeach()
  target_link_libraries(test_${name} PRIVATE llamita_test_support)
  foreach(kind portable sm90)
    if(TARGET test_${name}_${kind})
      target_link_libraries(test_${name}_${kind} PRIVATE llamita_test_support)
      target_compile_definitions(test_${name}_${kind} PRIVATE LLAMITA_DEVICE_TIMEOUT=1)
    endif()
  endforeach()
  gtest_discover_tests(test_${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 WORKING_DIRECTORY ${CMAKE_SOURCE_DIR}
                       TEST_PREFIX ${folder}. PROPERTIES TIMEOUT 300 LABELS gpu)
endfunction()

llamita_cuda_tests(hw/cuda hw/cuda)
llamita_cuda_tests(ops ops)

# What the compiler made of the Hopper kernels. Needs cuobjdump and nvdisasm, no card; without one the test is skipped aloud.
find_package(Python3 COMPONENTS Interpreter)
if(LLAMITA_HAVE_CUDA AND Python3_FOUND)
  add_test(NAME sass.hopper_kernels
           COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/scripts/check_sass.py ${CMAKE_BINARY_DIR})
  set_tests_properties(sass.hopper_kernels PROPERTIES TIMEOUT 300 SKIP_RETURN_CODE 77 LABELS gpu
                                                      ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endif()
