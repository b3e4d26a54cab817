// For hosts that open a plugin file with dlopen and do no more: ONNX Runtime's TensorRT provider, DeepStream, Triton.
// On load, this registers the creators of libsimam_tensorrt.so, which lies next to it, with the process's TensorRT.
//
// IPluginRegistry is not laid out alike in TensorRT 10 and 11, so there is one of these for each, and each looks at the
// version of the process before it calls anything. The plugin library is opened by its path, not linked: `getCreators`
// is the entry point of every plugin library, and the linker would take the first in the process. A failure is reported
// in one line on stderr, since there is no logger yet, and has no other effect.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <string>

#include <dlfcn.h>

#include <NvInferRuntime.h>

namespace {

using nvinfer1::IPluginCreatorInterface;
using nvinfer1::IPluginCreatorV3One;
using nvinfer1::IPluginRegistry;

constexpr int32_t kMajor = NV_TENSORRT_MAJOR;
constexpr char kPluginLibrary[] = "libsimam_tensorrt.so";

[[gnu::format(printf, 1, 2)]] void complain(char const* format, ...) noexcept {
  char message[1024];
  std::va_list values;
  va_start(values, format);
  std::vsnprintf(message, sizeof message, format, values);
  va_end(values);
  std::fprintf(stderr, "libsimam_tensorrt_trt%d_autoreg.so: no plugin was registered: %s\n", static_cast<int>(kMajor),
               message);
}

template <class Function>
Function* find(void* library, char const* symbol) noexcept {
  return reinterpret_cast<Function*>(dlsym(library, symbol));
}

// TensorRT as the process has it.
struct Host {
  decltype(getInferLibVersion)* version;
  decltype(getPluginRegistry)* registry;
  decltype(getLogger)* logger;  // may be null

  explicit Host(void* library) noexcept
      : version(find<decltype(getInferLibVersion)>(library, "getInferLibVersion")),
        registry(find<decltype(getPluginRegistry)>(library, "getPluginRegistry")),
        logger(find<decltype(getLogger)>(library, "getLogger")) {}

  bool found() const noexcept { return version != nullptr && registry != nullptr; }
  int32_t major() const noexcept { return version() / 10000; }
};

// Hosts open TensorRT for themselves, where symbols do not show: it is looked for by the name of its file too. It is
// never loaded from here.
Host find_host() noexcept {
  std::string const name = "libnvinfer.so." + std::to_string(kMajor);
  if (void* const library = dlopen(name.c_str(), RTLD_LAZY | RTLD_NOLOAD)) {
    Host const host(library);
    if (host.found()) return host;
  }
  return Host(RTLD_DEFAULT);
}

Host const* g_host = nullptr;

// The messages of the plugins go to the logger that the application gave TensorRT.
class Finder final : public nvinfer1::ILoggerFinder {
 public:
  nvinfer1::ILogger* findLogger() override { return g_host->logger != nullptr ? g_host->logger() : nullptr; }
};

std::string path_next_to_this_file() {
  Dl_info here{};
  if (dladdr(reinterpret_cast<void const*>(&g_host), &here) == 0 || here.dli_fname == nullptr) return kPluginLibrary;
  std::string const path = here.dli_fname;
  size_t const slash = path.rfind('/');
  return (slash == std::string::npos ? std::string("./") : path.substr(0, slash + 1)) + kPluginLibrary;
}

IPluginCreatorV3One* as_v3(IPluginCreatorInterface* creator) noexcept {
  bool const is = creator != nullptr && std::strcmp(creator->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0;
  return is ? static_cast<IPluginCreatorV3One*>(creator) : nullptr;
}

// Through the list of all: getCreator writes an error into the host's log where there is none.
bool is_registered(IPluginRegistry& registry, IPluginCreatorV3One& wanted) noexcept {
  int32_t count = 0;
  IPluginCreatorInterface* const* const all = registry.getAllCreators(&count);
  for (int32_t i = 0; all != nullptr && i < count; ++i)
    if (IPluginCreatorV3One* const creator = as_v3(all[i]))
      if (std::strcmp(creator->getPluginName(), wanted.getPluginName()) == 0 &&
          std::strcmp(creator->getPluginVersion(), wanted.getPluginVersion()) == 0 &&
          std::strcmp(creator->getPluginNamespace(), wanted.getPluginNamespace()) == 0)
        return true;
  return false;
}

void register_all() {
  static Host const host = find_host();
  if (!host.found()) {
    complain("there is no TensorRT %d in this process; load this file after libnvinfer.so.%d", static_cast<int>(kMajor),
             static_cast<int>(kMajor));
    return;
  }
  if (host.major() != kMajor) {
    complain(
        "it is for TensorRT %d, and this process has version %d of it; load "
        "libsimam_tensorrt_trt%d_autoreg.so, if there is one",
        static_cast<int>(kMajor), static_cast<int>(host.version()), static_cast<int>(host.major()));
    return;
  }
  g_host = &host;
  IPluginRegistry* const registry = host.registry();
  if (registry == nullptr) {
    complain("TensorRT gives no plugin registry");
    return;
  }
  std::string const path = path_next_to_this_file();
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // for good: the registry keeps its creators
  if (library == nullptr) {
    complain("%s", dlerror());
    return;
  }
  using GetCreators = IPluginCreatorInterface* const*(int32_t&);
  using SetLoggerFinder = void(nvinfer1::ILoggerFinder*);
  auto* const get_creators = find<GetCreators>(library, "getCreators");
  auto* const set_logger_finder = find<SetLoggerFinder>(library, "setLoggerFinder");
  if (get_creators == nullptr || set_logger_finder == nullptr) {
    complain("%s has no getCreators and setLoggerFinder", path.c_str());
    return;
  }
  int32_t count = 0, added = 0, refused = 0;
  IPluginCreatorInterface* const* const creators = get_creators(count);
  for (int32_t i = 0; i < count; ++i) {
    IPluginCreatorV3One* const creator = as_v3(creators[i]);
    if (creator == nullptr || is_registered(*registry, *creator)) continue;
    ++(registry->registerCreator(*creator, creator->getPluginNamespace()) ? added : refused);
  }
  if (refused > 0) complain("TensorRT's registry refused %d of %d", static_cast<int>(refused), static_cast<int>(count));
  if (added > 0) set_logger_finder(new Finder);  // for good, as the library
}

[[gnu::constructor]] void on_load() noexcept {
  try {
    register_all();
  } catch (...) {
    complain("out of memory");
  }
}

}  // namespace
