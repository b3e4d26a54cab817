// libsimam_cuda.so on a CPU, slow and simple, for the tests of what calls it: float32, alone, in any layout.
#include <math.h>

#include "simam_cuda.h"

struct SimamParams last;  // of the last launch
void* last_stream;
int launches, prepared;
int result;                // of simam_launch
int most_group = 1 << 30;  // simam_accepts no wider one
size_t needed;             // workspace

int simam_accepts(struct SimamParams const* p) { return p->group <= most_group; }
size_t simam_workspace(struct SimamParams const* p) { return p->pixels > 2 ? needed : 0; }
int simam_prepare(void) { return ++prepared, 0; }

int simam_launch(struct SimamParams const* p, void* stream) {
  ++launches;
  last = *p;
  last_stream = stream;
  if (result != 0 || p->type != SIMAM_F32) return result;
  if (p->workspace_size < simam_workspace(p)) return 1;
  int64_t const groups = (p->channels + p->group - 1) / p->group;
  for (int64_t n = 0; n < p->images; ++n)
    for (int64_t c = 0; c < p->channels; ++c) {
      int64_t const first = (n * groups + c / p->group) * p->pixels * p->group + c % p->group;
      float const* const x = (float const*)p->x + first;
      float* const y = (float*)p->y + first;
      double mean = 0, s = 0;
      for (int64_t i = 0; i < p->pixels; ++i) mean += (double)x[i * p->group] / (double)p->pixels;
      for (int64_t i = 0; i < p->pixels; ++i) s += pow((double)x[i * p->group] - mean, 2);
      for (int64_t i = 0; i < p->pixels; ++i) {
        double const d = pow((double)x[i * p->group] - mean, 2);
        double const gate = d / (4 * (s / (double)(p->pixels - 1) + (double)p->lambda)) + 0.5;
        y[i * p->group] = (float)((double)x[i * p->group] / (1 + exp(-gate)));
      }
    }
  return 0;
}
