# The operators for CUDA, on a fake ONNX Runtime and a fake launcher: no GPU and no nvcc.
simam_test(cuda_op cuda_op.cpp fake_launcher.cpp ${SIMAM_CUDA_OP_SOURCES})
target_include_directories(test_cuda_op SYSTEM PRIVATE ${SIMAM_ONNXRUNTIME_HEADERS})
target_compile_definitions(test_cuda_op PRIVATE SIMAM_WITH_CUDA)

# The whole library with the fake launcher, which a real ONNX Runtime can load: tests/test_cuda_library.py.
simam_add_op_library(simam_onnxruntime_fake CUDA)
target_sources(simam_onnxruntime_fake PRIVATE fake_launcher.cpp)
