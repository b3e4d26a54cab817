// The loops, compiled once per target: SIMAM_TARGET names it, SIMAM_WIDTH is its floats per vector.
//
// Statistics: with a shift k near the mean, r = x - k,  mean = k + sum(r) / M,  m2 = sum(r^2) - sum(r)^2 / M. If k is
// far from the mean, the plane is summed again with k = mean, so cancellation amplifies the rounding error by at most
// 4/3 (kFar). A plane is mostly read twice, for the sums and for y; from a cache that costs little more than once.
// Prefetch: memory of y during the sums, the next plane of x during the gate.
// Sums are float over at most kFlush vectors per lane, then double. A map has many equal values, which all round the
// same way: over 32 additions instead of 8, the error is four times as large.
// Gate: c = (x - hi) - lo with mean = hi + lo. For a mean that is large against the spread, x - hi is exact, so c loses
// no digit. t log2 e = (c * root)^2 with root = sqrt(log2 e / (4 (v + lambda))) does not overflow, unlike c^2.
#include "channels_last.h"
#include "loops.h"
#include "vector.h"

namespace {

using simam::cpu::kMostPlanes;
using simam::cpu::Type;

constexpr int kUnroll = 4;
constexpr int64_t kFlush = 8 * kUnroll;
constexpr double kHalfRootLog2e = 0.60056120439322491;  // sqrt(log2 e) / 2

// The shift is far if sum(r)^2 / M exceeds this share of sum(r^2). Below it, sum(r^2) is at most 1 / (1 - kFar) = 4/3
// of the difference m2, so cancellation amplifies the rounding error by at most 4/3.
constexpr double kFar = 0.25;
constexpr int kGuesses = 8;  // elements that the first shift is the mean of

// An address to prefetch. It may be outside our memory.
inline void const* away(void const* from, uintptr_t bytes) {
  return reinterpret_cast<void const*>(reinterpret_cast<uintptr_t>(from) + bytes);
}

// The sums of r = x - shift and of r^2.
struct Sums {
  Float first{}, second{};

  void add(Float r) {
    first += r;
    second += r * r;
  }
};

// Of `count` <= kFlush vectors, `stride` elements apart. Where y will be written is brought to the cache meanwhile.
template <class T>
inline Sums sums_of(T const* x, int64_t count, int64_t stride, float scale, Float shift, uintptr_t to_y) {
  Sums sums[kUnroll];
  int64_t i = 0;
  for (; i + kUnroll <= count; i += kUnroll)
    for (int u = 0; u < kUnroll; ++u) {
      T const* const here = x + (i + u) * stride;
      __builtin_prefetch(away(here, to_y), 1, 2);
      sums[u].add(load(here, scale) - shift);
    }
  for (; i < count; ++i) sums[0].add(load(x + i * stride, scale) - shift);
  return {(sums[0].first + sums[1].first) + (sums[2].first + sums[3].first),
          (sums[0].second + sums[1].second) + (sums[2].second + sums[3].second)};
}

// Fewer than a vector: by way of a padded copy.
template <class T>
inline Float load_short(T const* x, int64_t n, float scale) {
  T padded[kWidth]{};
  for (int64_t i = 0; i < n; ++i) padded[i] = x[i];
  return load(padded, scale);
}

// One element after the other in double: where squares overflow or vanish in float, which is rare.
template <class T>
[[gnu::noinline]] void moments_in_double(T const* x, int64_t n, int64_t step, float scale, double& mean, double& m2) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(load_one(x + i * step, scale));
  mean = sum / static_cast<double>(n);
  m2 = 0;
  for (int64_t i = 0; i < n; ++i) {
    double const d = static_cast<double>(load_one(x + i * step, scale)) - mean;
    m2 += d * d;
  }
}

// What was summed so far, per lane.
struct Totals {
  double shift[kMostPlanes]{};
  double first[kMostPlanes]{};
  double second[kMostPlanes]{};
  bool done[kMostPlanes]{};
};

// A plane of n elements in a row.
template <class T>
inline void sum_plane(T const* x, int64_t n, float scale, float shift, uintptr_t to_y, double& first, double& second) {
  Float const k = all(shift);
  int64_t const vectors = n / kWidth;
  int64_t const rest = n % kWidth;
  first = second = 0;
  for (int64_t i = 0; i < vectors || i == 0; i += kFlush) {
    int64_t const count = vectors - i < kFlush ? vectors - i : kFlush;
    Sums sums = sums_of(x + i * kWidth, count, kWidth, scale, k, to_y);
    if (rest != 0 && i + count == vectors) {
      Int const lane = lane_numbers();
      if (vectors > 0)
        sums.add(lane < static_cast<int>(kWidth - rest) ? Float{} : load(x + n - kWidth, scale) - k);
      else
        sums.add(lane < static_cast<int>(rest) ? load_short(x, n, scale) - k : Float{});
    }
    first += static_cast<double>(total(sums.first));
    second += static_cast<double>(total(sums.second));
  }
}

// A block of n pixels, kWidth of its planes at once.
template <class T>
inline void sum_column(T const* x, int64_t n, int block, float scale, Float shift, uintptr_t to_y, double* first,
                       double* second) {
  Double sum{}, squares{};
  for (int64_t i = 0; i < n; i += kFlush) {
    Sums const sums = sums_of(x + i * block, n - i < kFlush ? n - i : kFlush, block, scale, shift, to_y);
    sum += __builtin_convertvector(sums.first, Double);
    squares += __builtin_convertvector(sums.second, Double);
  }
  __builtin_memcpy(first, &sum, sizeof sum);
  __builtin_memcpy(second, &squares, sizeof squares);
}

// Where the planes of these lanes lie.
template <class T>
struct Place {
  T const* x;
  int64_t n;
  int64_t to_next;  // lane
  int64_t step;     // from element to element

  Place(Task const& task, T const* base, Lanes lanes, int64_t from, int64_t to)
      : x(base + lanes.first * task.m + from * task.block),
        n(to - from),
        to_next(task.block == 1 ? task.m : 1),
        step(task.block) {}
};

// The mean of some elements that lie apart: near enough to the plane's, mostly.
template <class T>
inline float guess(T const* x, int64_t n, int64_t step, float scale) {
  float sum = 0;
  for (int i = 0; i < kGuesses; ++i) sum += load_one(x + n * i / kGuesses * step, scale);
  return sum / kGuesses;
}

template <class T>
void sum(Task const& task, Place<T> const& place, int lanes, Totals& totals) {
  uintptr_t const to_y = reinterpret_cast<uintptr_t>(task.y) - reinterpret_cast<uintptr_t>(task.x);
  for (int i = 0; i < lanes; i += task.block == 1 ? 1 : kWidth) {
    T const* const x = place.x + i * place.to_next;
    if (task.block > 1)
      sum_column(x, place.n, task.block, task.x_scale, __builtin_convertvector(at<Double>(totals.shift + i), Float),
                 to_y, totals.first + i, totals.second + i);
    else if (!totals.done[i])
      sum_plane(x, place.n, task.x_scale, static_cast<float>(totals.shift[i]), to_y, totals.first[i], totals.second[i]);
  }
}

// True if the shift of some lane was too far from its mean; it is the mean then, for another try. The others keep
// theirs, so that no plane depends on the others.
inline bool finish(Totals& totals, Moments& out) {
  bool far = false;
  for (int i = 0; i < kMostPlanes; ++i) {
    double const offset = totals.first[i] / out.count;
    double const lost = totals.first[i] * offset;
    double const m2 = totals.second[i] - lost;
    out.mean[i] = totals.shift[i] + offset;
    out.m2[i] = m2 < 0 ? 0 : m2;  // a NaN stays
    auto const better = static_cast<double>(static_cast<float>(out.mean[i]));
    bool const lane_far = lost > kFar * totals.second[i] && better != totals.shift[i];
    totals.shift[i] = lane_far ? better : totals.shift[i];
    totals.done[i] = !lane_far;
    far |= lane_far;
  }
  return far;
}

// Whether squares may have overflowed, or have vanished although lambda is as small.
inline bool in_range(double m2, double n, float lambda) { return m2 < 1e37 && (lambda > 1e-14F || m2 > 1e-20 * n); }

template <class T>
void moments(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments& out) {
  Place<T> const place(task, static_cast<T const*>(task.x), lanes, from, to);
  out.count = static_cast<double>(place.n);
  Totals totals;
  for (int i = 0; i < lanes.count; ++i)
    totals.shift[i] = static_cast<double>(guess(place.x + i * place.to_next, place.n, place.step, task.x_scale));
  for (int attempt = 0; attempt < 3; ++attempt) {
    sum(task, place, lanes.count, totals);
    if (!finish(totals, out)) break;
  }
  for (int i = 0; i < lanes.count; ++i)
    if (!in_range(out.m2[i], out.count, task.lambda))
      moments_in_double(place.x + i * place.to_next, place.n, place.step, task.x_scale, out.mean[i], out.m2[i]);
}

// What the gate needs to know, per lane.
struct Gates {
  float hi[kMostPlanes];
  float lo[kMostPlanes];
  float root[kMostPlanes];

  Gates(Moments const& moments, float lambda) {
    for (int i = 0; i < kMostPlanes; ++i) {
      double const v = moments.m2[i] / (moments.count - 1);
      hi[i] = static_cast<float>(moments.mean[i]);
      lo[i] = static_cast<float>(moments.mean[i] - static_cast<double>(hi[i]));
      root[i] = static_cast<float>(kHalfRootLog2e / __builtin_sqrt(v + static_cast<double>(lambda)));
    }
  }
};

// The same as vectors: one plane in all lanes, or as many planes as there are lanes.
struct Gate {
  Float hi, lo, root, scale, bias;

  static Gate of_plane(Task const& task, Gates const& gates, int lane, int64_t channel) {
    bool const affine = task.scale != nullptr;
    return {all(gates.hi[lane]), all(gates.lo[lane]), all(gates.root[lane]), all(affine ? task.scale[channel] : 1.0F),
            all(affine ? task.bias[channel] : 0.0F)};
  }

  static Gate of_column(Task const& task, Gates const& gates, int lane, int64_t channel) {
    bool const affine = task.scale != nullptr;
    return {at<Float>(gates.hi + lane), at<Float>(gates.lo + lane), at<Float>(gates.root + lane),
            affine ? at<Float>(task.scale + channel) : all(1.0F), affine ? at<Float>(task.bias + channel) : Float{}};
  }
};

template <bool affine, bool residual, Activation activation>
struct Epilogue {
  static constexpr bool has_residual = residual;

  // x / (1 + exp(-t - 1/2)), t = (c * root / sqrt(log2 e))^2
  static Float apply(Gate const& gate, Float x, Float r) {
    Float const z = ((x - gate.hi) - gate.lo) * gate.root;
    Float y = x / one_plus_exp2(-0.5F * kLog2e - z * z);
    if (affine) y = y * gate.scale + gate.bias;
    if (residual) y = y + r;
    if (activation == Activation::relu) y = y < 0.0F ? Float{} : y;
    if (activation == Activation::silu) {
      Float const a = y * -kLog2e;
      y = y / one_plus_exp2(a > 126.0F ? all(126.0F) : a);
    }
    return y;
  }
};

template <class T, class Op>
struct Row {
  Task const& task;
  T const* x;
  T const* residual;
  T* y;
  float inverse_scale;
  uintptr_t ahead;  // bytes from x to what will be summed next: it comes from memory while this is computed

  Float other(int64_t i) const { return Op::has_residual ? load(residual + i, task.residual_scale) : Float{}; }

  void vectors(Gate const& of_run, int64_t count, int64_t stride) const {
    Gate const gate = of_run;  // in registers: y could be anything's address
    for (int64_t i = 0; i < count * stride; i += stride) {
      __builtin_prefetch(away(x + i, ahead), 0, 2);
      store(y + i, Op::apply(gate, load(x + i, task.x_scale), other(i)), inverse_scale);
    }
  }

  // The last vector overlaps the one before; as y may be x or residual, it is read before anything is written.
  void plane(Gate const& gate, int64_t n) const {
    if (n < kWidth) return shorter(gate, n);
    int64_t const last = n - kWidth;
    Float const x_last = load(x + last, task.x_scale);
    Float const other_last = other(last);
    vectors(gate, n / kWidth, kWidth);
    if (n % kWidth != 0) store(y + last, Op::apply(gate, x_last, other_last), inverse_scale);
  }

  void shorter(Gate const& gate, int64_t n) const {
    Float const r = Op::has_residual ? load_short(residual, n, task.residual_scale) : Float{};
    T padded[kWidth];
    store(padded, Op::apply(gate, load_short(x, n, task.x_scale), r), inverse_scale);
    for (int64_t i = 0; i < n; ++i) y[i] = padded[i];
  }
};

template <class T, class Op>
void gate_with(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  Gates const gates(moments, task.lambda);
  int64_t const offset = lanes.first * task.m + from * task.block;
  for (int i = 0; i < lanes.count; i += task.block == 1 ? 1 : kWidth) {
    int64_t const start = offset + i * (task.block == 1 ? task.m : 1);
    int64_t const channel = (lanes.first + i) % task.channels;
    Row<T, Op> const row{task,
                         static_cast<T const*>(task.x) + start,
                         Op::has_residual ? static_cast<T const*>(task.residual) + start : nullptr,
                         static_cast<T*>(task.y) + start,
                         1.0F / task.y_scale,
                         static_cast<uintptr_t>(lanes.count * task.m) * sizeof(T)};
    if (task.block == 1)
      row.plane(Gate::of_plane(task, gates, i, channel), to - from);
    else
      row.vectors(Gate::of_column(task, gates, i, channel), to - from, task.block);
  }
}

template <class T, bool residual>
void gate_affine(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  switch (task.activation) {
    case Activation::none:
      return gate_with<T, Epilogue<true, residual, Activation::none>>(task, lanes, from, to, moments);
    case Activation::relu:
      return gate_with<T, Epilogue<true, residual, Activation::relu>>(task, lanes, from, to, moments);
    case Activation::silu:
      return gate_with<T, Epilogue<true, residual, Activation::silu>>(task, lanes, from, to, moments);
  }
}

template <class T>
void gate(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  if (task.residual != nullptr) return gate_affine<T, true>(task, lanes, from, to, moments);
  if (task.scale != nullptr || task.activation != Activation::none)
    return gate_affine<T, false>(task, lanes, from, to, moments);
  return gate_with<T, Epilogue<false, false, Activation::none>>(task, lanes, from, to, moments);
}

void moments_of_type(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments& out) {
  if (task.channels_last) return moments_channels_last(task, lanes, from, to, out);
  switch (task.type) {
    case Type::f32: return moments<float>(task, lanes, from, to, out);
    case Type::f16: return moments<Half>(task, lanes, from, to, out);
    case Type::bf16: return moments<Bfloat>(task, lanes, from, to, out);
    case Type::s8: return moments<int8_t>(task, lanes, from, to, out);
    case Type::u8: break;  // has its channels last
  }
}

void gate_of_type(Task const& task, Lanes lanes, int64_t from, int64_t to, Moments const& moments) {
  if (task.channels_last) return gate_channels_last(task, lanes, from, to, moments);
  switch (task.type) {
    case Type::f32: return gate<float>(task, lanes, from, to, moments);
    case Type::f16: return gate<Half>(task, lanes, from, to, moments);
    case Type::bf16: return gate<Bfloat>(task, lanes, from, to, moments);
    case Type::s8: return gate<int8_t>(task, lanes, from, to, moments);
    case Type::u8: break;
  }
}

}  // namespace

namespace simam::cpu::SIMAM_TARGET {

extern Loops const loops;
Loops const loops{moments_of_type, gate_of_type};

}  // namespace simam::cpu::SIMAM_TARGET
