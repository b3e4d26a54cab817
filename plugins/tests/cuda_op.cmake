# The operators for CUDA, on a fake ONNX Runtime and a fake of the kernels: no GPU and no nvcc.
function(simam_cuda_op_test name source)
  simam_test(${name} ${source} fake_cuda.cpp ${SIMAM_CUDA_OP_SOURCES})
  target_include_directories(test_${name} SYSTEM PRIVATE ${SIMAM_ONNXRUNTIME_HEADERS})
  target_compile_definitions(test_${name} PRIVATE SIMAM_WITH_CUDA)
endfunction()

simam_cuda_op_test(cuda_op cuda_op.cpp)
simam_cuda_op_test(cuda_old_runtime old_runtime.cpp)
add_test(NAME cuda_runtime_1_17 COMMAND test_cuda_old_runtime 17)

# The whole library with that fake, which a real ONNX Runtime can load: tests/native/test_cuda_library.py.
simam_add_op_library(simam_onnxruntime_fake CUDA)
target_sources(simam_onnxruntime_fake PRIVATE fake_cuda.cpp)
