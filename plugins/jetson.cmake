# For `cmake --toolchain`: the compilers that jetson.sh unpacks into build/jetson, for AArch64 and CUDA 12 or 13.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(SIMAM_JETSON ${CMAKE_CURRENT_LIST_DIR}/../build/jetson)
set(tools ${SIMAM_JETSON}/gcc/bin/aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER ${tools}-g++)
set(CMAKE_AR ${tools}-ar)
set(CMAKE_RANLIB ${tools}-ranlib)
set(CMAKE_CUDA_COMPILER ${SIMAM_JETSON}/cuda${SIMAM_JETSON_CUDA}/bin/nvcc)
set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
if(SIMAM_JETSON_CUDA EQUAL 12)  # of whose runtime there is no static library in the wheels
  set(CMAKE_CUDA_FLAGS_INIT "-cudart=shared")
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
endif()
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES SIMAM_JETSON_CUDA)
# Nothing of the machine that compiles: its CUDA and its TensorRT are for another processor.
set(CMAKE_FIND_ROOT_PATH ${SIMAM_JETSON}/gcc)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
