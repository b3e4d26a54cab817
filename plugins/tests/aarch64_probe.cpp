// Run by qemu: loads a cross-compiled library, calls what it exports, and prints what it says. Libraries may be the
// plugin for TensorRT, the kernels, or an op library. There is no GPU: the kernels must say so, and not crash.
#include <cstdio>
#include <initializer_list>

#include <dlfcn.h>

#include <NvInferRuntime.h>

namespace {

template <class Function>
Function* find(void* library, char const* symbol) {
  return reinterpret_cast<Function*>(dlsym(library, symbol));
}

}  // namespace

int main(int, char** paths) {
  while (*++paths != nullptr) {
    void* const library = dlopen(*paths, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return std::printf("%s\n", dlerror()), 1;
    if (auto* const creators = find<nvinfer1::IPluginCreatorInterface* const*(int32_t&)>(library, "getCreators")) {
      int32_t count = 0;
      nvinfer1::IPluginCreatorInterface* const* const list = creators(count);
      for (int32_t i = 0; i < count; ++i) {
        auto* const creator = static_cast<nvinfer1::IPluginCreatorV3One*>(list[i]);
        std::printf("creator %s::%s %s\n", creator->getPluginNamespace(), creator->getPluginName(),
                    creator->getPluginVersion());
      }
    }
    if (auto* const prepare = find<int()>(library, "simam_prepare")) std::printf("simam_prepare %d\n", prepare());
    for (char const* const name : {"simam_providers", "simam_machine"})
      if (auto* const text = find<char const*()>(library, name)) std::printf("%s %s\n", name, text());
  }
}
