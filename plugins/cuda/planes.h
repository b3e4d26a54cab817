// Planes in NCHW, one after another: a team of threads keeps a plane, or a part of it, in its registers.
//
//   whole    a team has a plane: the lanes of a warp, or some of them, or a whole block
//   cluster  the blocks of a cluster share a plane and tell one another their moments
//   moments  `parts` blocks share a plane and write their moments to the workspace ...
//   gate     ... where a second launch reads them
//
// Each block takes the sum, then the sums of x - mean and of its square: what rounding the mean cost is made good.
#pragma once

#include "arithmetic.h"

namespace simam::cuda {

constexpr int kWarp = 32;
constexpr int kMostParts = 16;  // blocks of a cluster

enum class Team { lanes, block };

template <class Access, int kHeld, Team team, Mode mode, bool kEpilogue>
struct Planes {
  using T = typename Access::T;
  using Chunk = typename Access::Chunk;
  static constexpr int kCount = Access::kCount;

  // Of a block. `parts` is written by the other blocks of the cluster.
  struct Shared {
    Moments parts[kMostParts];
    float sums[3][kWarp];  // of the warps
  };

  template <class Block>
  static SIMAM_DEVICE void run(Problem const& p, Block const& block) {
    if constexpr (mode == Mode::cluster) block.cluster_begin();
    auto const number = static_cast<int>(block.index());
    int const lane = block.thread() % kWarp;
    int plane = number;
    int part = 0;
    int first = lane + block.thread() / kWarp * kHeld * kWarp;  // its chunk; it has every step-th from there on
    int step = kWarp;
    if constexpr (team == Team::lanes) {
      int const shift = log2_of(p.team);
      step = p.team;
      first = lane & (step - 1);
      plane = number * (block.threads() >> shift) + (block.thread() >> shift);
    }
    if constexpr (mode != Mode::whole) {
      plane = number / p.parts;
      part = number - plane * p.parts;
    }

    int const from = part * p.part;
    int const length = mode == Mode::whole ? p.pixels : p.pixels - from < p.part ? p.pixels - from : p.part;
    // Of a plane that is not there none: the other lanes of the warp need these for their sums.
    int const chunks = team == Team::lanes && plane >= p.count ? 0 : length / kCount;
    int64_t const start = (p.first + plane) * p.pixels + from;
    Chunk const* const x =
        block.settled(reinterpret_cast<Chunk const*>(static_cast<typename T::Element const*>(p.x) + start) + first);

    Chunk held[kHeld];
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      held[i] = Chunk{};  // beyond the end: zeros
      if (first + i * step < chunks) held[i] = block.load(x + i * step);
    }

    Chunk const* residual = nullptr;
    if constexpr (kEpilogue && mode != Mode::moments)
      if (p.residual != nullptr) {
        residual = reinterpret_cast<Chunk const*>(static_cast<typename T::Element const*>(p.residual) + start) + first;
        SIMAM_UNROLL
        for (int i = 0; i < kHeld; ++i)  // one thread for each line of 128 bytes
          if (first * sizeof(Chunk) % 128 == 0 && first + i * step < chunks) block.prefetch(residual + i * step);
      }

    auto* const shared = reinterpret_cast<Shared*>(block.shared());
    Moments all;
    if constexpr (mode == Mode::gate) {
      all = gather(
          p.workspace + static_cast<int64_t>(plane) * p.parts, p, block.thread(), block.threads(),
          [&](float* slots, float v) { return over_team(block, kWarp, slots, v); }, *shared);
    } else {
      all = moments(block, held, first, step, length, chunks);
    }
    if constexpr (mode == Mode::cluster) {
      block.cluster_wait();  // the others have begun
      if (block.thread() < p.parts) block.store_remote(&shared->parts[part], block.thread(), all);
      block.cluster_arrive();
      block.cluster_wait();
      all = gather(shared->parts, p, lane, kWarp, [&](float*, float v) { return sum_of(block, v); }, *shared);
    }
    if constexpr (mode == Mode::moments) {
      if (block.thread() == 0) p.workspace[static_cast<int64_t>(plane) * p.parts + part] = all;
    } else {
      store(block, p, held, residual, first, step, chunks, plane, start, all);
    }
  }

 private:
  // The sums over a team: within its warps, then over them. Each sum has kWarp slots.
  template <class Block, class Number, int kSums>
  static SIMAM_DEVICE void over_team(Block const& block, int lanes, Number* slots, Number (&v)[kSums]) {
    if constexpr (team == Team::lanes)
      sum_over(block, lanes, v);
    else
      for (Number& each : v) each = sum_of(block, each);
    if constexpr (team == Team::block) {
      int const warps = block.threads() / kWarp;
      int const lane = block.thread() % kWarp;
      for (int i = 0; i < kSums; ++i)
        if (lane == 0) slots[i * kWarp + block.thread() / kWarp] = v[i];
      block.sync();
      for (int i = 0; i < kSums; ++i) v[i] = sum_of(block, lane < warps ? slots[i * kWarp + lane] : Number{});
    }
  }

  template <class Block>
  static SIMAM_DEVICE float over_team(Block const& block, int lanes, float* slots, float v) {
    float sum[] = {v};
    over_team(block, lanes, slots, sum);
    return sum[0];
  }

  template <class Block>
  static SIMAM_DEVICE Moments moments(Block const& block, Chunk (&held)[kHeld], int first, int step, int length,
                                      int chunks) {
    if constexpr (T::kScaled && Access::kWide) return moments_of_bytes(block, held, step, length);
    auto* const shared = reinterpret_cast<Shared*>(block.shared());
    float v[kCount];
    float sum = 0;
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      widen<Access>(held[i], v);
      for (int j = 0; j < kCount; ++j) sum += v[j];
    }
    auto const count = static_cast<float>(length);
    float const mean = over_team(block, step, shared->sums[0], sum) * reciprocal(count);
    float sums[2] = {};  // of x - mean, and of its square
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      float const centre = first + i * step < chunks ? mean : 0;  // of zeros beyond the end: they add nothing
      widen<Access>(held[i], v);
      float squares = 0;  // of a few first: a long chain would lose more
      for (int j = 0; j < kCount; ++j) {
        float const d = v[j] - centre;
        sums[0] += d;
        squares = fused_multiply_add(d, d, squares);
      }
      sums[1] += squares;
    }
    over_team(block, step, shared->sums[1], sums);
    return about(mean, count, sums[0], sums[1]);
  }

  // int8: the sums are exact, and one round of them does.
  template <class Block>
  static SIMAM_DEVICE Moments moments_of_bytes(Block const& block, Chunk const (&held)[kHeld], int step, int length) {
    int sums[2] = {};
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i)
      for (uint32_t const w : held[i].w) {
        sums[0] = multiply_bytes(w, 0x01010101U, sums[0]);
        sums[1] = multiply_bytes(w, w, sums[1]);
      }
    over_team(block, step, reinterpret_cast<int*>(reinterpret_cast<Shared*>(block.shared())->sums), sums);
    return of_integers(length, sums[0], sums[1]);
  }

  // All parts' moments made one: a thread adds up some of them, `over` the sums of all threads that take part.
  template <class Over>
  static SIMAM_DEVICE Moments gather(Moments const* parts, Problem const& p, int first, int step, Over const& over,
                                     Shared& shared) {
    float const centre = parts[0].mean;
    float off = 0;
    SIMAM_UNROLL_BY_4
    for (int i = first; i < p.parts; i += step) off += parts[i].count * apart_of(parts[i], centre, 0);
    Moments const mean = mean_of(centre, static_cast<float>(p.pixels), over(shared.sums[0], off));
    float rest = 0;
    float squares = 0;
    SIMAM_UNROLL_BY_4
    for (int i = first; i < p.parts; i += step) {
      float const apart = apart_of(parts[i], mean.mean, mean.rest);
      rest += parts[i].count * apart;
      squares += fused_multiply_add(parts[i].count * apart, apart, parts[i].m2);
    }
    rest = over(shared.sums[1], rest);
    squares = over(shared.sums[2], squares);
    return merged(mean, rest, squares);
  }

  template <class Block>
  static SIMAM_DEVICE void store(Block const& block, Problem const& p, Chunk (&held)[kHeld], Chunk const* residual,
                                 int first, int step, int chunks, int plane, int64_t start, Moments const& all) {
    using Element = typename T::Element;
    Gate const gate = gate_of<T>(all, p);
    Chunk* const y = block.settled(reinterpret_cast<Chunk*>(static_cast<Element*>(p.y) + start) + first);
    Epilogue last{1, 0};
    if constexpr (kEpilogue)
      last = epilogue_of<T>(
          p, static_cast<int>(static_cast<uint32_t>(p.first + plane) % static_cast<uint32_t>(p.channels)));
    // The next of the residual is read before this one of y is written, which may be in its place.
    Chunk next{};
    if (kEpilogue && residual != nullptr && first < chunks) next = block.load(residual);
    float v[kCount];
    float more[kCount] = {};
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      bool const has = first + i * step < chunks;
      if (i == kHeld / 2 && !has) return;  // and nvcc, which would do all chunks at once, does each half for itself
      widen<Access>(held[i], v);
      if constexpr (kEpilogue)
        if (residual != nullptr) {
          widen<Access>(next, more);
          if (i + 1 < kHeld && first + (i + 1) * step < chunks) next = block.load(residual + (i + 1) * step);
        }
      apply_epilogue<T, kEpilogue>(v, more, [&](int) { return gate; }, [&](int) { return last; }, p);
      Chunk const out = narrow<Access>(v);
      if (has) block.store(y + i * step, out);
    }
  }
};

}  // namespace simam::cuda
