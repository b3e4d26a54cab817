#include "fake_launcher.h"

using namespace simam::test;

int simam_launch(SimamParams const* params, void* stream) {
  launcher::launches.push_back({*params, stream});
  return launcher::launch_result;
}

int simam_accepts(SimamParams const*) { return launcher::accepts; }

size_t simam_workspace(SimamParams const*) { return launcher::workspace; }

int simam_prepare() {
  ++launcher::prepared;
  return launcher::prepare_result;
}
