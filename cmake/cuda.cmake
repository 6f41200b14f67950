# LLAMITA_CUDA: ON compiles the GPU part (nvcc needed), OFF leaves it out, AUTO takes it when nvcc and a GPU are here.
set(LLAMITA_HAVE_CUDA OFF)
find_program(LLAMITA_NVCC nvcc PATHS /usr/local/cuda/bin)
if(LLAMITA_CUDA STREQUAL "AUTO")
  if(LLAMITA_NVCC AND EXISTS /dev/nvidia0)
    set(LLAMITA_HAVE_CUDA ON)
  endif()
elseif(LLAMITA_CUDA)
  set(LLAMITA_HAVE_CUDA ON)
endif()
option(LLAMITA_DEVICE_TIMEOUT "Kernels that spin on a barrier for two seconds stop with an error" OFF)

# Portable kernels: code for sm_80 and sm_90, and PTX that newer cards compile. Files that end in _sm90.cu use wgmma and
# setmaxnreg, which exist on compute capability 9.0 alone: they are compiled for sm_90a and no other file is.
set(LLAMITA_PORTABLE_CODE --generate-code=arch=compute_80,code=sm_80 --generate-code=arch=compute_90,code=sm_90
                          --generate-code=arch=compute_80,code=compute_80)
set(LLAMITA_SM90_CODE --generate-code=arch=compute_90a,code=sm_90a)

if(LLAMITA_HAVE_CUDA)
  if(NOT LLAMITA_NVCC)
    message(FATAL_ERROR "LLAMITA_CUDA=${LLAMITA_CUDA} needs nvcc: install the CUDA toolkit (12.8 or newer) or put nvcc on "
                        "the PATH")
  endif()
  set(CMAKE_CUDA_COMPILER ${LLAMITA_NVCC})
  set(CMAKE_CUDA_ARCHITECTURES OFF)  # the lists above, per object library
  enable_language(CUDA)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc speaks C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  find_package(CUDAToolkit REQUIRED)
  # A warning of ptxas (serialised wgmma, spilled or ignored registers) is a kernel at half speed: an error too.
  # Integer arithmetic that host and device share (sampling) is constexpr.
  set(LLAMITA_CUDA_FLAGS --expt-relaxed-constexpr -Werror=all-warnings -Xptxas=--warning-as-error -Xcompiler=-Wall,-Wextra,-Werror)
endif()

# llamita_cuda_objects(<target> <file>.cu...): compiles the files into <target>, each for the code its name asks for.
function(llamita_cuda_objects target)
  set(portable ${ARGN})
  list(FILTER portable EXCLUDE REGEX "_sm90\\.cu$")
  set(sm90 ${ARGN})
  list(FILTER sm90 INCLUDE REGEX "_sm90\\.cu$")
  foreach(kind portable sm90)
    if(${kind})
      string(TOUPPER ${kind} upper)
      add_library(${target}_${kind} OBJECT ${${kind}})
      target_compile_options(${target}_${kind} PRIVATE ${LLAMITA_${upper}_CODE} ${LLAMITA_CUDA_FLAGS} -lineinfo)
      target_include_directories(${target}_${kind} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src
                                 ${CMAKE_SOURCE_DIR}/include)
      if(LLAMITA_DEVICE_TIMEOUT)
        target_compile_definitions(${target}_${kind} PRIVATE LLAMITA_DEVICE_TIMEOUT=1)
      endif()
      target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_${kind}>)
    endif()
  endforeach()
endfunction()

# The library of src/hw/cuda: the only caller of the CUDA API. Without the GPU part it is no_cuda.cc alone, which finds
# no card, so that everything above compiles and links the same in every build.
function(llamita_hw_cuda)
  if(LLAMITA_HAVE_CUDA)
    llamita_module(hw/cuda tensor LIBS CUDA::cudart_static)
    file(GLOB kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/hw/cuda/*.cu)
    llamita_cuda_objects(llamita_hw_cuda ${kernels})
    get_target_property(sources llamita_hw_cuda SOURCES)
    list(FILTER sources EXCLUDE REGEX "/no_cuda\\.cc$")
    set_target_properties(llamita_hw_cuda PROPERTIES SOURCES "${sources}")
    llamita_ops_cuda()
  else()
    add_library(llamita_hw_cuda STATIC ${CMAKE_SOURCE_DIR}/src/hw/cuda/no_cuda.cc)
    target_include_directories(llamita_hw_cuda PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src>
                               $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
    target_link_libraries(llamita_hw_cuda PUBLIC llamita_tensor)
  endif()
endfunction()

# The kernels of src/ops join the library whose tables list them.
function(llamita_ops_cuda)
  if(NOT LLAMITA_HAVE_CUDA)
    return()
  endif()
  file(GLOB_RECURSE kernels CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/ops/*.cu)
  llamita_cuda_objects(llamita_ops ${kernels})
  target_compile_definitions(llamita_ops PUBLIC LLAMITA_HAVE_CUDA=1)
  target_link_libraries(llamita_ops PUBLIC llamita_hw_cuda)
endfunction()
