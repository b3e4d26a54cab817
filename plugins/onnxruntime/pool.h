// The threads of the session, for a kernel of ../cpu.
#pragma once

#include "node.h"

namespace simam::ort {

struct Pool {
  OrtKernelContext* context;
  OrtStatus* status;

  static void run(void* pool, void (*work)(void*, size_t), size_t count, void* data) {
    Pool& self = *static_cast<Pool*>(pool);
    if (self.status == nullptr) self.status = api()->KernelContext_ParallelFor(self.context, work, count, 0, data);
  }
};

}  // namespace simam::ort
