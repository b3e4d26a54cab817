// A run allocates nothing: malloc and its kin are counted. (Around it, ONNX Runtime's C interface allocates one small
// object for the shape of each input; that is not ours to leave out.)
#include <cerrno>
#include <cstddef>

#include "problem.h"

namespace {
long volatile counted = 0;  // volatile: compilers take it that malloc changes nothing that they can see
}

// glibc has what is behind malloc under these names. operator new and aligned_alloc end here too, or in memalign.
#pragma GCC visibility push(default)  // the libraries are to find these
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  counted = counted + 1;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  counted = counted + 1;
  return __libc_calloc(count, size);
}
void* realloc(void* old, size_t size) {
  counted = counted + 1;
  return __libc_realloc(old, size);
}
void* memalign(size_t alignment, size_t size) {
  counted = counted + 1;
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** out, size_t alignment, size_t size) {
  *out = memalign(alignment, size);
  return *out != nullptr ? 0 : ENOMEM;
}
}
#pragma GCC visibility pop

namespace simam::test {
namespace {

TEST(the_counter_counts) {
  long const before = counted;
  std::vector<int>* volatile one = new std::vector<int>(3);
  delete one;
  CHECK(counted >= before + 2, "%ld allocations of two", counted - before);
}

TEST(a_run_allocates_nothing) {
  for (Type const type : kTypes)
    for (int64_t const m : {2, 49, 3136, 102400})
      for (int const block : {1, 4, 8, 16}) {
        Problem p = make(type, kInputs[0], 1, 16, m, 1);
        p.op = kOps[6];
        size_t const bytes = static_cast<size_t>(p.size()) * format(type).bytes;
        std::vector<char> x(bytes);
        lay_out(p, block, p.x, p.x_scale, x.data());
        std::vector<char> y(bytes);
        cpu::Task task = task_of(p, block);
        task.x = x.data();
        task.residual = x.data();
        task.y = y.data();
        for_targets([&](cpu::Target const& target) {
          long const before = counted;
          cpu::run_with(target, task, in_order());
          long const after = counted;
          CHECK(after == before, "%s %s m %d block %d: %ld allocations", target.name, format(type).name,
                static_cast<int>(m), block, after - before);
        });
        long const before = counted;
        cpu::run(task, in_order());
        CHECK(counted == before, "run: %ld allocations", counted - before);
      }
}

}  // namespace
}  // namespace simam::test

int main(int count, char** names) { return simam::test::run_tests(count, names); }
