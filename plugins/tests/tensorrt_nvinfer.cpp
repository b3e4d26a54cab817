// A libnvinfer with a registry, a logger and a version, and nothing else: one for each major, by its own headers.
// The tests steer it by the environment: FAKE_REFUSING=1 takes no creators, FAKE_NO_REGISTRY=1 has no registry.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <NvInferRuntime.h>

#define SIMAM_FAKE extern "C" __attribute__((visibility("default")))

namespace {

using nvinfer1::AsciiChar;
using nvinfer1::IPluginCreatorInterface;

struct Entry {
  IPluginCreatorInterface* creator;
  std::string plugin_namespace;
};

std::vector<Entry> entries;
std::vector<IPluginCreatorInterface*> creators;
std::string log_text;

[[noreturn]] void unexpected() { std::abort(); }

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // the registry of TensorRT 10 has them
#endif

class Registry final : public nvinfer1::IPluginRegistry {
 public:
  ~Registry() noexcept override = default;

  bool registerCreator(IPluginCreatorInterface& creator, AsciiChar const* plugin_namespace) noexcept override {
    if (std::getenv("FAKE_REFUSING") != nullptr) return false;
    entries.push_back({&creator, plugin_namespace});
    creators.push_back(&creator);
    return true;
  }
  IPluginCreatorInterface* const* getAllCreators(int32_t* count) const noexcept override {
    *count = static_cast<int32_t>(creators.size());
    return creators.data();
  }

  void setErrorRecorder(nvinfer1::IErrorRecorder*) noexcept override { unexpected(); }
  nvinfer1::IErrorRecorder* getErrorRecorder() const noexcept override { unexpected(); }
  bool isParentSearchEnabled() const override { unexpected(); }
  void setParentSearchEnabled(bool) override { unexpected(); }
  PluginLibraryHandle loadLibrary(AsciiChar const*) noexcept override { unexpected(); }
  void deregisterLibrary(PluginLibraryHandle) noexcept override { unexpected(); }
  IPluginCreatorInterface* getCreator(AsciiChar const*, AsciiChar const*, AsciiChar const*) noexcept override {
    unexpected();  // the real one writes an error into the log where there is none
  }
  bool deregisterCreator(IPluginCreatorInterface const&) noexcept override { unexpected(); }
  nvinfer1::IPluginResource* acquirePluginResource(AsciiChar const*, nvinfer1::IPluginResource*) noexcept override {
    unexpected();
  }
  int32_t releasePluginResource(AsciiChar const*) noexcept override { unexpected(); }
#if NV_TENSORRT_MAJOR == 10
  bool registerCreator(nvinfer1::IPluginCreator&, AsciiChar const*) noexcept override { unexpected(); }
  nvinfer1::IPluginCreator* const* getPluginCreatorList(int32_t*) const noexcept override { unexpected(); }
  nvinfer1::IPluginCreator* getPluginCreator(AsciiChar const*, AsciiChar const*, AsciiChar const*) noexcept override {
    unexpected();
  }
  bool deregisterCreator(nvinfer1::IPluginCreator const&) noexcept override { unexpected(); }
#else
  IPluginCreatorInterface* const* getAllCreatorsRecursive(int32_t*) noexcept override { unexpected(); }
#endif
};

// Of another kind: behind what all creators have lie other functions.
class Older : public IPluginCreatorInterface {
 public:
  nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override { return {"PLUGIN CREATOR_V1", 1, 0}; }
  virtual void a() { unexpected(); }
  virtual void b() { unexpected(); }
  virtual void c() { unexpected(); }
  virtual void d() { unexpected(); }
  virtual void e() { unexpected(); }
};

// Of the plugin's next version.
class Later final : public nvinfer1::IPluginCreatorV3One {
 public:
  nvinfer1::IPluginV3* createPlugin(AsciiChar const*, nvinfer1::PluginFieldCollection const*,
                                    nvinfer1::TensorRTPhase) noexcept override {
    unexpected();
  }
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { unexpected(); }
  AsciiChar const* getPluginName() const noexcept override { return "SimAM"; }
  AsciiChar const* getPluginVersion() const noexcept override { return "2"; }
  AsciiChar const* getPluginNamespace() const noexcept override { return ""; }
};

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity, AsciiChar const* message) noexcept override { log_text += message; }
};

Registry registry;
Logger logger;
Older older;
Later later;

}  // namespace

SIMAM_FAKE nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
  return std::getenv("FAKE_NO_REGISTRY") != nullptr ? nullptr : &registry;
}
SIMAM_FAKE nvinfer1::ILogger* getLogger() noexcept { return &logger; }
SIMAM_FAKE int32_t getInferLibVersion() noexcept { return NV_TENSORRT_VERSION + 305; }  // a later one of this major

// What the test asks: name, version and both namespaces of each, a line for each.
SIMAM_FAKE char const* fake_entries() noexcept {
  static std::string text;
  text.clear();
  for (Entry const& entry : entries) {
    auto* const creator = static_cast<nvinfer1::IPluginCreatorV3One*>(entry.creator);
    text += std::string(creator->getPluginName()) + " " + creator->getPluginVersion() + " '" +
            creator->getPluginNamespace() + "' '" + entry.plugin_namespace + "'\n";
  }
  return text.c_str();
}

// What is logged when a plugin is made without fields.
SIMAM_FAKE char const* fake_refusal() noexcept {
  log_text.clear();
  auto* const creator = static_cast<nvinfer1::IPluginCreatorV3One*>(entries.front().creator);
  if (creator->createPlugin("block", nullptr, nvinfer1::TensorRTPhase::kBUILD) != nullptr) return "it was made";
  return log_text.c_str();
}

// They are listed, and are no entries.
SIMAM_FAKE void fake_add_others() noexcept { creators.insert(creators.end(), {&older, &later}); }

// As IPluginRegistry::loadLibrary does, but for the finder.
SIMAM_FAKE void fake_load(IPluginCreatorInterface* const* (*get_creators)(int32_t&)) noexcept {
  int32_t count = 0;
  IPluginCreatorInterface* const* const all = get_creators(count);
  for (int32_t i = 0; i < count; ++i)
    registry.registerCreator(*all[i], static_cast<nvinfer1::IPluginCreatorV3One*>(all[i])->getPluginNamespace());
}
