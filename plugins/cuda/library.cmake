# libsimam_cuda.so: the kernels alone, as ctypes loads them (simam_deploy/cuda_library.py). Made of the target simam_cuda.
#
#   simam_add_kernel_library(name kernels)   the shared library `name` of the static one `kernels`
function(simam_add_kernel_library name kernels)
  set(exports ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/exports.map)
  set_target_properties(${kernels} PROPERTIES CXX_VISIBILITY_PRESET default CUDA_VISIBILITY_PRESET default)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp "")  # a library has a source
  add_library(${name} SHARED ${CMAKE_CURRENT_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE ${kernels})
  target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc -Wl,--version-script=${exports}
                      -Wl,-u,simam_launch -Wl,-u,simam_accepts -Wl,-u,simam_workspace -Wl,-u,simam_prepare)
  set_target_properties(${name} PROPERTIES LINK_DEPENDS ${exports} LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
endfunction()

if(TARGET simam_cuda)
  simam_add_kernel_library(simam_cuda_shared simam_cuda)
  set_target_properties(simam_cuda_shared PROPERTIES OUTPUT_NAME simam_cuda)
  install(TARGETS simam_cuda_shared LIBRARY DESTINATION simam_deploy/lib)
else()
  file(REMOVE ${PROJECT_BINARY_DIR}/libsimam_cuda.so)  # of an earlier time: it would be found and run
endif()
