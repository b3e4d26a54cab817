// Chooses the target and splits the work.
#include "simam_cpu.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "features.h"
#include "loops.h"

namespace simam::cpu {

#define SIMAM_DECLARE(target) \
  namespace target {          \
  extern Loops const loops;   \
  }
SIMAM_DECLARE(baseline)
#if defined(__x86_64__)
SIMAM_DECLARE(avx512)
SIMAM_DECLARE(avx2)
#endif
#undef SIMAM_DECLARE

namespace {

constexpr int64_t kAlone = 32 * 1024;    // elements below which waking other threads costs more than they save
constexpr int64_t kLeast = 4 * 1024;     // elements of one piece of work, at least
constexpr int64_t kMost = 128 * 1024;    // and at most, but for a plane that is longer
constexpr int64_t kPart = 32 * 1024;     // elements of a part of a plane, at least
constexpr int64_t kPieces = 16;          // what to aim at in between: some for each thread, to even them out
constexpr int64_t kTogether = 4 * 1024;  // elements of the small planes that are worked on together
constexpr int kParts = 32;               // pieces of one plane, at most
constexpr int64_t kFew = 16;             // planes, or blocks, of which long ones are split

bool always() { return true; }

#if defined(__x86_64__)
bool has_avx2() { return features().avx2 && features().fma; }

bool has_avx512() {
  return has_avx2() && features().avx512f && features().avx512bw && features().avx512dq && features().avx512vl;
}
#endif

}  // namespace

Target const kTargets[] = {
#if defined(__x86_64__)
    {"avx512", 16, has_avx512, &avx512::loops},
    {"avx2", 8, has_avx2, &avx2::loops},
#endif
    {"baseline", 4, always, &baseline::loops},
};
int const kTargetCount = static_cast<int>(sizeof kTargets / sizeof *kTargets);

namespace {

Target const& choose_target() {
  char const* const wanted = std::getenv("SIMAM_CPU");
  if (Target const* const found = wanted == nullptr ? nullptr : find_target(wanted)) return *found;
  return *std::find_if(std::begin(kTargets), std::end(kTargets), [](Target const& t) { return t.supported(); });
}

// Chan, Golub, LeVeque 1983, Eq. (2.1): the moments of two sets together.
void merge(Moments& a, Moments const& b, int lanes) {
  double const count = a.count + b.count;
  for (int i = 0; i < lanes; ++i) {
    double const apart = b.mean[i] - a.mean[i];
    a.mean[i] += apart * b.count / count;
    a.m2[i] += b.m2[i] + apart * apart * a.count * b.count / count;
  }
  a.count = count;
}

int lanes_of(Task const& task) {
  if (task.block > 1) return task.block;
  if (task.channels_last) return kMaxLanes;
  return static_cast<int>(std::clamp<int64_t>(kTogether / task.m, 1, kMostPlanes));
}

// Whether the vectors of a target do not fit, and narrower ones do. With channels last, a vector holds bytes; few
// channels fill it with several pixels, and one that is not filled costs less than many of the baseline.
bool is_too_wide(Task const& task, Target const& target, Target const& narrower) {
  if (task.block > 1) return task.block % target.width != 0;
  return task.channels_last && task.channels > kMaxLanes && narrower.width > 4 &&
         task.channels % (4 * target.width) != 0 && task.channels % (4 * narrower.width) == 0;
}

struct Job {
  Task const& task;
  Loops const& loops;
  int together;       // planes in a group, at most
  int64_t per_piece;  // groups, or elements of a plane
  Lanes lanes;        // of the group whose planes are split
  Moments* parts;     // of them
};

int64_t pieces(int64_t total, int64_t per_piece) { return (total + per_piece - 1) / per_piece; }

// With channels last, a group ends where its image does.
int64_t row(Task const& task) { return task.channels_last ? task.channels : task.planes; }

int64_t group_count(Job const& job) {
  int64_t const planes = row(job.task);
  return planes == 0 ? 0 : job.task.planes / planes * pieces(planes, job.together);
}

Lanes group(Job const& job, int64_t number) {
  int64_t const planes = row(job.task);
  int64_t const per_row = pieces(planes, job.together);
  int64_t const first = number % per_row * job.together;
  return {number / per_row * planes + first, static_cast<int>(std::min<int64_t>(job.together, planes - first))};
}

void whole_planes(void* data, size_t piece) {
  Job const& job = *static_cast<Job*>(data);
  Task const& task = job.task;
  int64_t const start = static_cast<int64_t>(piece) * job.per_piece;
  int64_t const end = std::min(start + job.per_piece, group_count(job));
  for (int64_t number = start; number < end; ++number) {
    Lanes const lanes = group(job, number);
    Moments moments;
    job.loops.moments(task, lanes, 0, task.m, moments);
    job.loops.gate(task, lanes, 0, task.m, moments);
  }
}

int64_t end_of(Job const& job, int64_t from) { return std::min(from + job.per_piece, job.task.m); }

void moments_of_part(void* data, size_t piece) {
  Job& job = *static_cast<Job*>(data);
  int64_t const from = static_cast<int64_t>(piece) * job.per_piece;
  job.loops.moments(job.task, job.lanes, from, end_of(job, from), job.parts[piece]);
}

void gate_of_part(void* data, size_t piece) {
  Job const& job = *static_cast<Job*>(data);
  int64_t const from = static_cast<int64_t>(piece) * job.per_piece;
  job.loops.gate(job.task, job.lanes, from, end_of(job, from), job.parts[0]);
}

}  // namespace

Target const* find_target(char const* name) {
  for (Target const& target : kTargets)
    if (target.supported() && std::strcmp(name, target.name) == 0) return &target;
  return nullptr;
}

Target const& best_target() {
  static Target const& chosen = choose_target();
  return chosen;
}

void run(Task const& task, Parallel parallel) { run_with(best_target(), task, parallel); }

void run_with(Target const& target, Task const& task, Parallel parallel) {
  Target const* fitting = &target;
  while (fitting + 1 != kTargets + kTargetCount && is_too_wide(task, *fitting, fitting[1])) ++fitting;
  int const lanes = lanes_of(task);
  Job job{task, *static_cast<Loops const*>(fitting->loops), lanes, 0, {}, nullptr};
  int64_t const total = task.planes * task.m;
  int64_t const count = group_count(job);
  if (total < kAlone) {
    job.per_piece = count;
    if (count > 0) whole_planes(&job, 0);
  } else if (count >= kFew || task.m * lanes < 2 * kPart) {
    job.per_piece = std::max<int64_t>(1, std::clamp(total / kPieces, kLeast, kMost) / (task.m * lanes));
    parallel.run(parallel.pool, whole_planes, static_cast<size_t>(pieces(count, job.per_piece)), &job);
  } else {
    job.per_piece = std::max(pieces(task.m, kParts), kPart / lanes);
    auto const parts = static_cast<size_t>(pieces(task.m, job.per_piece));
    Moments moments[kParts];
    job.parts = moments;
    for (int64_t number = 0; number < count; ++number) {
      job.lanes = group(job, number);
      parallel.run(parallel.pool, moments_of_part, parts, &job);
      for (size_t i = 1; i < parts; ++i) merge(job.parts[0], job.parts[i], job.lanes.count);
      parallel.run(parallel.pool, gate_of_part, parts, &job);
    }
  }
}

}  // namespace simam::cpu
