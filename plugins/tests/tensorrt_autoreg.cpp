// The libraries that register the plugin, in processes with and without a TensorRT. Arguments: their folder, in which
// a fake libnvinfer of each major has a folder of its own, and the major. Each case is a process of its own.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/simam.h"
#include "harness.h"

namespace simam::test {
namespace {

std::string folder;
int major = 0;

struct Outcome {
  bool ended;        // as it should: exit 0
  std::string said;  // on stderr
};

// Runs `body` in a process of its own; it is to end with true.
Outcome in_process(std::function<bool()> const& body) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::abort();
  std::fflush(stdout);
  pid_t const child = fork();
  if (child == 0) {
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    bool const right = body();
    std::fflush(stdout);
    _exit(right ? 0 : 1);
  }
  close(pipe_ends[1]);
  std::string said;
  char bytes[512];
  for (ssize_t got = 0; (got = read(pipe_ends[0], bytes, sizeof bytes)) > 0;)
    said.append(bytes, static_cast<size_t>(got));
  close(pipe_ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return {WIFEXITED(status) && WEXITSTATUS(status) == 0, said};
}

std::string autoreg() { return folder + "/libsimam_tensorrt_trt" + std::to_string(major) + "_autoreg.so"; }

void* open_host(int of_major, int how) {
  std::string const name = folder + "/" + std::to_string(of_major) + "/libnvinfer.so." + std::to_string(of_major);
  return dlopen(name.c_str(), how);
}

template <class Function>
Function* symbol(void* library, char const* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

std::string entries(void* host) { return symbol<char const*()>(host, "fake_entries")(); }

std::string all_entries() {
  std::string all;
  for (Op const& op : kOps)
    for (char const* const plugin_namespace : {"", "simam"})
      all += text("%s 1 '%s' '%s'\n", op.name, plugin_namespace, plugin_namespace);
  return all;
}

bool silent(Outcome const& outcome) {
  if (!outcome.said.empty()) std::printf("  said: %s\n", outcome.said.c_str());
  return outcome.said.empty();
}

bool one_line(Outcome const& outcome, std::string const& words) {
  bool const right = std::count(outcome.said.begin(), outcome.said.end(), '\n') == 1 &&
                     outcome.said.find(words) != std::string::npos &&
                     outcome.said.rfind("libsimam_tensorrt_trt" + std::to_string(major) + "_autoreg.so: ", 0) == 0;
  if (!right) std::printf("  wanted '%s', got: %s\n", words.c_str(), outcome.said.c_str());
  return right;
}

TEST(registers) {
  for (int const how : {RTLD_NOW | RTLD_LOCAL, RTLD_NOW | RTLD_GLOBAL}) {
    Outcome const outcome = in_process([&] {
      void* const host = open_host(major, how);
      void* const library = dlopen(autoreg().c_str(), RTLD_NOW);
      if (host == nullptr || library == nullptr) {
        std::printf("  %s\n", dlerror());
        return false;
      }
      bool right = entries(host) == all_entries();
      if (!right) std::printf("  %s\n", entries(host).c_str());
      // Messages come to the host's logger, and what was registered stays when the host closes the file.
      right = dlclose(library) == 0 && right;
      std::string const refusal = symbol<char const*()>(host, "fake_refusal")();
      if (refusal.find("SimAM: layer 'block': the field 'e_lambda' is missing") != 0) {
        std::printf("  %s\n", refusal.c_str());
        right = false;
      }
      right = dlopen(autoreg().c_str(), RTLD_NOW) != nullptr && entries(host) == all_entries() && right;
      return right;
    });
    CHECK(outcome.ended && silent(outcome), "%s", (how & RTLD_GLOBAL) != 0 ? "global" : "local");
  }
}

TEST(what_is_there_stays) {
  Outcome const outcome = in_process([&] {
    void* const host = open_host(major, RTLD_NOW);
    void* const plugin = dlopen((folder + "/libsimam_tensorrt.so").c_str(), RTLD_NOW);
    if (host == nullptr || plugin == nullptr) return false;
    symbol<void(void*)>(host, "fake_load")(dlsym(plugin, "getCreators"));
    // A finder too: none was given, so nothing is logged.
    return dlopen(autoreg().c_str(), RTLD_NOW) != nullptr && entries(host) == all_entries() &&
           symbol<char const*()>(host, "fake_refusal")() == std::string();
  });
  CHECK(outcome.ended && silent(outcome), "registered twice");
}

TEST(others_are_there) {
  Outcome const outcome = in_process([&] {
    void* const host = open_host(major, RTLD_NOW);
    if (host == nullptr) return false;
    symbol<void()>(host, "fake_add_others")();
    return dlopen(autoreg().c_str(), RTLD_NOW) != nullptr && entries(host) == all_entries();
  });
  CHECK(outcome.ended && silent(outcome), "a creator of another kind or version");
}

TEST(no_registry) {
  Outcome const outcome = in_process([&] {
    setenv("FAKE_NO_REGISTRY", "1", 1);
    return open_host(major, RTLD_NOW) != nullptr && dlopen(autoreg().c_str(), RTLD_NOW) != nullptr;
  });
  CHECK(outcome.ended && one_line(outcome, "TensorRT gives no plugin registry"), "what it said");
}

TEST(shows_nothing) {
  std::FILE* const pipe = popen(("nm -D --defined-only '" + autoreg() + "' 2>&1").c_str(), "r");
  if (pipe == nullptr) std::abort();
  char line[512];
  while (std::fgets(line, sizeof line, pipe) != nullptr)
    CHECK(std::strstr(line, " T ") == nullptr && std::strstr(line, " W ") == nullptr, "%s", line);
  CHECK(pclose(pipe) == 0, "nm");
}

// Though the loader would find one: LD_LIBRARY_PATH names its folder.
TEST(no_tensorrt) {
  Outcome const outcome = in_process([&] { return dlopen(autoreg().c_str(), RTLD_NOW) != nullptr; });
  CHECK(outcome.ended, "it loads all the same");
  CHECK(one_line(outcome, text("no TensorRT %d in this process; load this file after libnvinfer.so.%d", major, major)),
        "what it said");
}

TEST(another_major) {
  int const other = 21 - major;
  if (Outcome const there = in_process([&] { return open_host(other, RTLD_NOW) != nullptr; }); !there.ended) {
    std::printf("  skipped: no headers of TensorRT %d\n", other);
    return;
  }
  Outcome const outcome = in_process([&] {
    void* const host = open_host(other, RTLD_NOW | RTLD_GLOBAL);
    return dlopen(autoreg().c_str(), RTLD_NOW) != nullptr && entries(host).empty();
  });
  CHECK(outcome.ended, "it was called");
  CHECK(one_line(outcome, text("load libsimam_tensorrt_trt%d_autoreg.so", other)), "what it said");
  // With both, the own one is taken, though the other shows its symbols.
  Outcome const both = in_process([&] {
    void* const theirs = open_host(other, RTLD_NOW | RTLD_GLOBAL);
    void* const ours = open_host(major, RTLD_NOW | RTLD_LOCAL);
    return dlopen(autoreg().c_str(), RTLD_NOW) != nullptr && entries(theirs).empty() && entries(ours) == all_entries();
  });
  CHECK(both.ended && silent(both), "both");
}

TEST(refusing_registry) {
  Outcome const outcome = in_process([&] {
    setenv("FAKE_REFUSING", "1", 1);
    void* const host = open_host(major, RTLD_NOW);
    return dlopen(autoreg().c_str(), RTLD_NOW) != nullptr && entries(host).empty();
  });
  CHECK(outcome.ended && one_line(outcome, "TensorRT's registry refused 14 of 14"), "what it said");
}

// A copy of the file in a folder of its own.
TEST(no_plugin_next_to_it) {
  char place[] = "/tmp/simam_autoreg_XXXXXX";
  if (mkdtemp(place) == nullptr) std::abort();
  std::string const copy = std::string(place) + "/libsimam_tensorrt_trt_autoreg.so";
  CHECK(std::system(("cp '" + autoreg() + "' '" + copy + "'").c_str()) == 0, "copied");
  Outcome const outcome = in_process([&] {
    void* const host = open_host(major, RTLD_NOW);
    return dlopen(copy.c_str(), RTLD_NOW) != nullptr && entries(host).empty();
  });
  CHECK(outcome.ended && one_line(outcome, std::string(place) + "/libsimam_tensorrt.so: cannot open"), "what it said");
  unlink(copy.c_str());
  rmdir(place);
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) {
  if (count < 3) return 1;
  simam::test::folder = names[1];
  simam::test::major = std::atoi(names[2]);
  return simam::test::run_tests(count - 2, names + 2);
}
