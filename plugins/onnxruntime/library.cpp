// The op library: what ONNX Runtime calls when it is given this file (SessionOptions::RegisterCustomOpsLibrary,
// `register_custom_ops_library` in Python), and what simam_deploy/native.py asks it.
//
// Two files are made of it: one for the CPU, free of CUDA, and with SIMAM_WITH_CUDA one that has each operator for the
// CPU and for CUDA, under both names that CUDA's provider may have. ONNX Runtime gives a node to the provider that it
// put the node on.
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "op.h"

namespace simam::ort {
namespace {

struct Failure {
  OrtStatus* status;
};

// The operators and their domains, made once. ONNX Runtime keeps pointers to them for as long as any session lives, so
// they are never freed.
class Library {
 public:
  explicit Library(uint32_t api_version) {
    add_domain(kDomain, false, api_version);
    add_domain(kBlockedDomain, true, api_version);
    add_int8_domain(api_version);
  }

  OrtStatus* add_to(OrtSessionOptions* options) const {
    for (OrtCustomOpDomain* const domain : domains_)
      if (OrtStatus* const status = api()->AddCustomOpDomain(options, domain)) return status;
    return nullptr;
  }

 private:
  void add_domain(char const* name, bool blocked, uint32_t api_version) {
    OrtCustomOpDomain* domain = nullptr;
    check(api()->CreateCustomOpDomain(name, &domain));
    domains_.push_back(domain);
    for (Op const& op : kOps)
      for (cpu::Type const type : {cpu::Type::f32, cpu::Type::f16, cpu::Type::bf16}) {
        if (blocked && type != cpu::Type::f32) continue;  // ONNX Runtime blocks float32 alone
        add(domain, std::make_unique<CpuOp>(op, type, blocked, api_version));
#ifdef SIMAM_WITH_CUDA
        if (blocked) continue;
        for (char const* const provider : {CudaOp::kProvider, CudaOp::kPluginProvider})
          add(domain, std::make_unique<CudaOp>(op, type, provider, api_version));
#endif
      }
  }

  void add_int8_domain(uint32_t api_version) {
    OrtCustomOpDomain* domain = nullptr;
    check(api()->CreateCustomOpDomain(kInt8Domain, &domain));
    domains_.push_back(domain);
    for (Op const& op : kOps)
      for (cpu::Type const type : {cpu::Type::u8, cpu::Type::s8})
        add(domain, std::make_unique<Int8Op>(op, type, api_version));
  }

  void add(OrtCustomOpDomain* domain, std::unique_ptr<CustomOp> op) {
    operators_.push_back(std::move(op));
    check(api()->CustomOpDomain_Add(domain, operators_.back().get()));
  }

  static void check(OrtStatus* status) {
    if (status != nullptr) throw Failure{status};
  }

  std::vector<OrtCustomOpDomain*> domains_;
  std::vector<std::unique_ptr<CustomOp>> operators_;
};

// The API to use: 18 where there is one, else the lowest that will do. An ONNX Runtime that has neither prints what it
// has and gives null.
uint32_t choose_api(OrtApiBase const* base) {
  for (uint32_t const version : {kInplaceApi, kLowestApi})
    if (OrtApi const* const found = base->GetApi(version)) {
      set_api(found);
      return version;
    }
  return 0;
}

// What can be said before the API is chosen, and to an ONNX Runtime that is not ours: by its own API, which has this
// call from the first version on.
OrtStatus* refuse(OrtApiBase const* base, OrtErrorCode code, char const* message) {
  return base->GetApi(1)->CreateStatus(code, message);
}

// The operators hold the API and the domains of one ONNX Runtime: the first that asked.
struct Runtime {
  explicit Runtime(OrtApiBase const* base_) : base(base_), version(choose_api(base_)) {}

  OrtApiBase const* base;
  uint32_t version;
};

// SIMAM_CPU as it is set, where this processor has no such target.
OrtStatus* refuse_target(OrtApiBase const* base) {
  char const* const wanted = std::getenv("SIMAM_CPU");
  if (wanted == nullptr || *wanted == '\0' || cpu::find_target(wanted) != nullptr) return nullptr;
  char message[256];
  int used = std::snprintf(message, sizeof message, "SIMAM_CPU is '%.40s'; this processor has", wanted);
  char const* between = "";
  for (int i = 0; i < cpu::kTargetCount; ++i)
    if (cpu::kTargets[i].supported()) {
      size_t const room = sizeof message - static_cast<size_t>(used);
      used += std::snprintf(message + used, room, "%s %s", between, cpu::kTargets[i].name);
      between = ",";
    }
  return refuse(base, ORT_INVALID_ARGUMENT, message);
}

}  // namespace
}  // namespace simam::ort

#define SIMAM_EXPORT extern "C" __attribute__((visibility("default")))

SIMAM_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, OrtApiBase const* base) {
  using namespace simam::ort;
  static Runtime const runtime(base);
  if (base != runtime.base)
    return refuse(base, ORT_FAIL,
                  "the op library is in use by another ONNX Runtime in this process; give this one a copy of the file "
                  "under another name");
  if (runtime.version == 0)
    return refuse(base, ORT_NOT_IMPLEMENTED, "simam's op library needs ONNX Runtime " SIMAM_LOWEST_RUNTIME " or later");
  if (OrtStatus* const status = refuse_target(base)) return status;
  try {
    static Library const* const library = new Library(runtime.version);
    return library->add_to(options);
  } catch (Failure const& failure) {
    return failure.status;
  } catch (...) {
    return api()->CreateStatus(ORT_FAIL, "simam's op library: out of memory");
  }
}

// The version of the operators, to be compared with simam_deploy.formula.OP_VERSION.
SIMAM_EXPORT int simam_version() { return simam::kVersion; }

// The instructions that the kernels use on this machine: "avx512", "avx2" or "baseline".
SIMAM_EXPORT char const* simam_target() { return simam::cpu::best_target().name; }

// What a file specialised here is marked with.
SIMAM_EXPORT char const* simam_machine() { return simam::ort::machine(); }

// The execution providers that it has operators for, with commas between.
SIMAM_EXPORT char const* simam_providers() {
#ifdef SIMAM_WITH_CUDA
  return "CPUExecutionProvider,CUDAExecutionProvider,CudaPluginExecutionProvider";
#else
  return "CPUExecutionProvider";
#endif
}
