// The two entry points of the plugin library, which TensorRT calls after it has loaded the file (trtexec
// --dynamicPlugins, IPluginRegistry::loadLibrary, load_library in Python). Loading alone has no effect.
#include <iterator>
#include <new>

#include "logger.h"
#include "plugin.h"

namespace simam::trt {
namespace {

// Makes the plugin of one operator. A parser asks for the namespace that the node names, for the empty one, or for the
// node's ONNX domain: each operator has a creator for both. The files of this project name `simam` and have no scales:
// there a parser reads e_lambda alone, and warns of nothing. In the empty namespace it reads the scales of int8 too.
// Whoever calls createPlugin may give all of them in both.
class Creator final : public nvinfer1::IPluginCreatorV3One {
 public:
  Creator(Op const& op, char const* plugin_namespace) noexcept : op_(op), namespace_(plugin_namespace) {
    names_.advertise(op, *plugin_namespace == '\0');
  }

  nvinfer1::IPluginV3* createPlugin(char const* layer, nvinfer1::PluginFieldCollection const* collection,
                                    nvinfer1::TensorRTPhase phase) noexcept override {
    Fields fields;
    if (!read_fields(op_, layer, collection, phase, fields)) return nullptr;
    auto* const made = new (std::nothrow) Plugin(op_, namespace_, fields);
    if (made == nullptr) refuse(op_.name, "out of memory");
    return made;
  }

  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return names_.get(); }
  char const* getPluginName() const noexcept override { return op_.name; }
  char const* getPluginVersion() const noexcept override { return kPluginVersion; }
  char const* getPluginNamespace() const noexcept override { return namespace_; }

 private:
  Op const& op_;
  char const* namespace_;
  FieldList names_;
};

constexpr size_t kOpCount = std::size(kOps);

// Never destroyed: a registry may outlive this library's own exit handlers.
struct Creators {
  Creators() noexcept {
    for (size_t i = 0; i < kOpCount; ++i) {
      list[2 * i] = new (room[2 * i]) Creator(kOps[i], "");
      list[2 * i + 1] = new (room[2 * i + 1]) Creator(kOps[i], kDomain);
    }
  }

  alignas(Creator) unsigned char room[2 * kOpCount][sizeof(Creator)];
  nvinfer1::IPluginCreatorInterface* list[2 * kOpCount];
};

}  // namespace
}  // namespace simam::trt

#define SIMAM_EXPORT extern "C" __attribute__((visibility("default")))

SIMAM_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static simam::trt::Creators const creators;
  count = static_cast<int32_t>(std::size(creators.list));
  return creators.list;
}

SIMAM_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { simam::trt::set_logger_finder(finder); }
