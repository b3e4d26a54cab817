# The TensorRT plugin, driven as TensorRT drives it, with fake kernels: neither libnvinfer, nvcc nor a GPU is needed.
# Each version of the headers makes a plugin and a host, and each host loads each plugin.
if(CMAKE_CROSSCOMPILING AND NOT SIMAM_TENSORRT_MISSING)
  set(SIMAM_TENSORRT_MISSING "the tests load libraries, and this is another machine's program")
endif()
if(CMAKE_CXX_FLAGS MATCHES "sanitize=thread")  # these have one thread
  return()
endif()
if(SIMAM_TENSORRT_MISSING)
  add_test(NAME tensorrt COMMAND ${CMAKE_COMMAND} -E echo "skipped: ${SIMAM_TENSORRT_MISSING}")
  set_tests_properties(tensorrt PROPERTIES SKIP_REGULAR_EXPRESSION "skipped: ")
  return()
endif()

# A plugin and a host of two versions of the headers know each other by the ABI, not by one name of each type.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND CMAKE_CXX_FLAGS MATCHES "sanitize=.*undefined")
  add_compile_options(-fno-sanitize=function)
endif()

function(simam_tensorrt_headers target version)
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_include_directories(${target} SYSTEM PRIVATE ${SIMAM_TENSORRT_${version}} ${SIMAM_CUDA_HEADERS})
endfunction()

foreach(version IN LISTS SIMAM_TENSORRT_VERSIONS)
  simam_tensorrt_shell(simam_tensorrt_${version} ${version})  # the fake kernels are in the program that loads it
  add_executable(test_tensorrt_${version} fake_cuda.cpp tensorrt_build.cpp tensorrt_fields.cpp tensorrt_library.cpp
                 tensorrt_run.cpp)
  simam_tensorrt_headers(test_tensorrt_${version} ${version})
  target_link_libraries(test_tensorrt_${version} PRIVATE ${CMAKE_DL_LIBS})
  target_link_options(test_tensorrt_${version} PRIVATE -rdynamic)
  set(built $<TARGET_FILE_DIR:simam_tensorrt_${version}>)
  foreach(plugin IN LISTS SIMAM_TENSORRT_VERSIONS)
    add_test(NAME tensorrt_${version}_loads_${plugin}
             COMMAND test_tensorrt_${version} ${built}/libsimam_tensorrt_${plugin}.so)
  endforeach()
endforeach()

# The libraries that register the plugin: next to one that is whole, with the fake kernels in it, and a fake libnvinfer
# of each major in a folder of its own.
set(folder ${CMAKE_CURRENT_BINARY_DIR}/autoreg)
list(GET SIMAM_TENSORRT_VERSIONS 0 version)
simam_tensorrt_shell(simam_tensorrt_faked ${version})
target_sources(simam_tensorrt_faked PRIVATE fake_cuda.cpp)
set_target_properties(simam_tensorrt_faked PROPERTIES OUTPUT_NAME simam_tensorrt LIBRARY_OUTPUT_DIRECTORY ${folder})
foreach(major IN LISTS SIMAM_TENSORRT_MAJORS)
  set(version ${SIMAM_TENSORRT_LOWEST_${major}})
  simam_tensorrt_autoreg(simam_tensorrt_faked_trt${major} ${version})
  add_library(fake_nvinfer_${major} SHARED tensorrt_nvinfer.cpp)
  simam_tensorrt_headers(fake_nvinfer_${major} ${version})
  set_target_properties(fake_nvinfer_${major} PROPERTIES OUTPUT_NAME nvinfer SOVERSION ${major}
                        LIBRARY_OUTPUT_DIRECTORY ${folder}/${major})
  set_target_properties(simam_tensorrt_faked_trt${major} PROPERTIES
                        OUTPUT_NAME simam_tensorrt_trt${major}_autoreg LIBRARY_OUTPUT_DIRECTORY ${folder})
endforeach()
add_executable(test_tensorrt_autoreg tensorrt_autoreg.cpp)
target_include_directories(test_tensorrt_autoreg PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_tensorrt_autoreg PRIVATE ${CMAKE_DL_LIBS})
foreach(major IN LISTS SIMAM_TENSORRT_MAJORS)
  add_test(NAME tensorrt_autoreg_${major} COMMAND test_tensorrt_autoreg ${folder} ${major})
  set_tests_properties(tensorrt_autoreg_${major} PROPERTIES ENVIRONMENT LD_LIBRARY_PATH=${folder}/${major})
endforeach()
