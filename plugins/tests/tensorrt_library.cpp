// The plugin library as a file, and its creators. The first argument of the program is that file; main() is here.
#include <cstdio>
#include <iterator>
#include <set>
#include <sstream>

#include <dlfcn.h>

#include "tensorrt_host.h"

namespace simam::test {

PluginLibrary& plugin_library() {
  static PluginLibrary library;
  return library;
}

namespace {

bool open_library(char const* path) {
  PluginLibrary& library = plugin_library();
  library.path = path;
  library.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr) {
    std::printf("%s\n", dlerror());
    return false;
  }
  using GetCreators = nvinfer1::IPluginCreatorInterface* const*(int32_t&);
  auto* const get_creators = reinterpret_cast<GetCreators*>(dlsym(library.handle, "getCreators"));
  library.set_logger_finder =
      reinterpret_cast<void (*)(nvinfer1::ILoggerFinder*)>(dlsym(library.handle, "setLoggerFinder"));
  if (get_creators == nullptr || library.set_logger_finder == nullptr) {
    std::printf("%s has no getCreators and setLoggerFinder\n", path);
    return false;
  }
  host_finder.logger = &host_logger;
  library.set_logger_finder(&host_finder);
  int32_t count = -1;
  nvinfer1::IPluginCreatorInterface* const* const creators = get_creators(count);
  for (int32_t i = 0; i < count; ++i) library.creators.push_back(static_cast<IPluginCreatorV3One*>(creators[i]));
  return true;
}

// The lines that a tool of the compiler's writes about the library.
std::vector<std::string> ask(std::string const& command) {
  std::vector<std::string> lines;
  std::FILE* const pipe = popen((command + " '" + plugin_library().path + "'").c_str(), "r");
  if (pipe == nullptr) return lines;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe) != nullptr) lines.emplace_back(line);
  pclose(pipe);
  return lines;
}

TEST(exported) {
  std::set<std::string> names;
  for (std::string const& line : ask("nm -D --defined-only")) {
    std::istringstream words(line);
    std::string address, kind, name;
    words >> address >> kind >> name;
    names.insert(name);
  }
  std::string all;
  for (std::string const& name : names) all += name + " ";
  CHECK((names == std::set<std::string>{"getCreators", "setLoggerFinder"}), "it shows %s", all.c_str());
}

TEST(needed) {
  int found = 0;
  for (std::string const& line : ask("readelf -d")) {
    if (line.find("(NEEDED)") == std::string::npos) continue;
    ++found;
    for (char const* const library : {"nvinfer", "cudart", "libcuda", "stdc++"})
      CHECK(line.find(library) == std::string::npos || thin(), "%s", line.c_str());
  }
  CHECK(found > 0, "nothing is needed: the tool was not understood");
  for (std::string const& line : ask("nm -D --undefined-only"))
    CHECK(line.find("nvinfer") == std::string::npos && line.find("getPluginRegistry") == std::string::npos &&
              line.find("cuda") == std::string::npos,
          "%s", line.c_str());
}

TEST(creators) {
  CHECK(plugin_library().creators.size() == 2 * std::size(kOps), "%zu", plugin_library().creators.size());
  std::set<std::string> names;
  for (IPluginCreatorV3One* const creator : plugin_library().creators) {
    nvinfer1::InterfaceInfo const info = creator->getInterfaceInfo();
    CHECK(std::strcmp(info.kind, "PLUGIN CREATOR_V3ONE") == 0 && info.major == 1 && info.minor == 0, "%s %d.%d",
          info.kind, info.major, info.minor);
    CHECK(creator->getAPILanguage() == nvinfer1::APILanguage::kCPP, "language");
    CHECK(std::strcmp(creator->getPluginVersion(), "1") == 0, "%s", creator->getPluginVersion());
    names.insert(std::string(creator->getPluginNamespace()) + "::" + creator->getPluginName());
    Op const& op = op_named(creator->getPluginName());
    std::set<std::string> fields;
    nvinfer1::PluginFieldCollection const* const collection = creator->getFieldNames();
    for (int32_t i = 0; i < collection->nbFields; ++i) {
      fields.insert(collection->fields[i].name);
      CHECK(collection->fields[i].type == PluginFieldType::kFLOAT32 && collection->fields[i].length == 1, "%s",
            collection->fields[i].name);
    }
    std::set<std::string> wanted{"e_lambda"};
    if (*creator->getPluginNamespace() == '\0') {
      wanted.insert({"x_scale", "y_scale"});
      if (op.residual) wanted.insert("residual_scale");
    }
    CHECK(fields == wanted, "%s has %zu fields", op.name, fields.size());
  }
  for (Op const& op : kOps)
    for (char const* const plugin_namespace : {"", "simam"})
      CHECK(names.count(std::string(plugin_namespace) + "::" + op.name) == 1, "no %s in '%s'", op.name,
            plugin_namespace);
}

TEST(interfaces) {
  for (IPluginCreatorV3One* const creator : plugin_library().creators) {
    FieldValues fields = fields_for(op_named(creator->getPluginName()), false);
    Made const made(creator->createPlugin("block", fields.get(), TensorRTPhase::kBUILD));
    CHECK(made.plugin != nullptr, "%s", creator->getPluginName());
    if (!made.plugin) continue;
    struct Kind {
      nvinfer1::InterfaceInfo info;
      char const* name;
    };
    Kind const kinds[] = {{made.plugin->getInterfaceInfo(), "PLUGIN"},
                          {made.core->getInterfaceInfo(), "PLUGIN_V3ONE_CORE"},
                          {made.build->getInterfaceInfo(), "PLUGIN_V3ONE_BUILD"},
                          {made.runtime->getInterfaceInfo(), "PLUGIN_V3ONE_RUNTIME"}};
    for (Kind const& kind : kinds)
      CHECK(std::strcmp(kind.info.kind, kind.name) == 0 && kind.info.major == 1 && kind.info.minor == 0, "%s %s %d.%d",
            kind.name, kind.info.kind, kind.info.major, kind.info.minor);
    CHECK(std::strcmp(made.core->getPluginName(), creator->getPluginName()) == 0, "%s", made.core->getPluginName());
    CHECK(std::strcmp(made.core->getPluginVersion(), "1") == 0, "%s", made.core->getPluginVersion());
    CHECK(std::strcmp(made.core->getPluginNamespace(), creator->getPluginNamespace()) == 0, "an engine looks it up");
    CHECK(made.build->getNbOutputs() == 1, "%d", made.build->getNbOutputs());
    CHECK(made.build->getFormatCombinationLimit() >= 16, "%d", made.build->getFormatCombinationLimit());
    CHECK(quiet(), "%s", creator->getPluginName());
    CHECK(made.plugin->getCapabilityInterface(static_cast<nvinfer1::PluginCapabilityType>(3)) == nullptr, "the fourth");
    CHECK(complained("no capability 3"), "%s", creator->getPluginName());
  }
}

// Whatever the logger is, a refusal is a refusal.
TEST(loggers) {
  Op const& op = kOps[0];
  auto const refused = [&] { return make(op, false, -1.0F).plugin == nullptr; };
  CHECK(refused() && complained("e_lambda"), "the host's");
  host_finder.throws = true;
  CHECK(refused() && quiet(), "a finder that throws");
  host_finder.throws = false;
  host_finder.logger = nullptr;
  CHECK(refused() && quiet(), "a finder that finds none");
  host_finder.logger = &host_logger;
  plugin_library().set_logger_finder(nullptr);
  CHECK(refused() && quiet(), "no finder");
  struct Unknown {  // the classes of a TensorRT that is not known yet: not called
    virtual void* a() { std::abort(); }
    virtual void* b() { std::abort(); }
    virtual void* c() { std::abort(); }
    virtual void* d() { std::abort(); }
    virtual void* e() { std::abort(); }
    virtual ~Unknown() = default;
  } unknown;
  plugin_library().set_logger_finder(reinterpret_cast<nvinfer1::ILoggerFinder*>(&unknown));
  CHECK(refused() && quiet(), "an unknown finder");
  struct Plain : Unknown {};
  struct Second final : Plain, nvinfer1::ILoggerFinder {  // where its functions lie is not looked for
    nvinfer1::ILogger* findLogger() override { return &host_logger; }
  } second;
  plugin_library().set_logger_finder(&second);
  CHECK(refused() && quiet(), "a finder that is a second base");
  struct First : nvinfer1::ILoggerFinder {
    nvinfer1::ILogger* findLogger() override { return &host_logger; }
  };
  struct Versioned : nvinfer1::IVersionedInterface {  // as the finder of TensorRT 11 is, and no finder
    nvinfer1::InterfaceInfo getInterfaceInfo() const noexcept override { return {"other", 1, 0}; }
  };
  struct Behind final : Versioned, First {
  } behind;
  plugin_library().set_logger_finder(static_cast<First*>(&behind));
  CHECK(refused() && quiet(), "a finder behind another interface");
  struct Both final : First, Plain {
  } both;
  plugin_library().set_logger_finder(&both);
  CHECK(refused() && complained("e_lambda"), "a finder with another base behind it");
  plugin_library().set_logger_finder(&host_finder);
  CHECK(refused() && complained("e_lambda"), "the host's again");
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) {
  if (count < 2 || !simam::test::open_library(names[1])) return 1;
  std::printf("a host of TensorRT %d.%d\n", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR);
  return simam::test::run_tests(count - 1, names + 1);
}
