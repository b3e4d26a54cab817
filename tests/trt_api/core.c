// The nine functions that TensorRT's Python bindings need of libnvinfer, its parser and its plugins.
// With FORWARD they are those of TensorRT-RTX, where the process has loaded it. Otherwise they give nothing.
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static void* Find(const char* library, const char* name) {
  void* loaded = FORWARD ? dlopen(library, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  return loaded ? dlsym(loaded, name) : NULL;
}

#define TAKEN_FROM(library, name, parameters, arguments) \
  void* name parameters {                                \
    void*(*function)parameters = Find(library, #name);   \
    return function ? function arguments : NULL;         \
  }

#define CORE "libtensorrt_rtx.so.1"
TAKEN_FROM(CORE, createInferBuilder_INTERNAL, (void* logger, int32_t version), (logger, version))
TAKEN_FROM(CORE, createInferRuntime_INTERNAL, (void* logger, int32_t version), (logger, version))
TAKEN_FROM(CORE, createInferRefitter_INTERNAL, (void* engine, void* logger, int32_t version), (engine, logger, version))
TAKEN_FROM(CORE, getPluginRegistry, (void), ())
TAKEN_FROM(CORE, getBuilderPluginRegistry, (int32_t capability), (capability))

#define PARSER "libtensorrt_onnxparser_rtx.so.1"
TAKEN_FROM(PARSER, createNvOnnxParser_INTERNAL, (void* network, void* logger, int32_t version),
           (network, logger, version))
TAKEN_FROM(PARSER, createNvOnnxParserRefitter_INTERNAL, (void* refitter, void* logger, int32_t version),
           (refitter, logger, version))

int32_t getNvOnnxParserVersion(void) {
  int32_t (*version)(void) = Find(PARSER, __func__);
  return version ? version() : 0;
}

bool initLibNvInferPlugins(void* logger, const char* plugin_namespace) { return true; }
