// Channels side by side: a block has a tile of channels at all pixels, or at a part of them, and keeps it in registers.
// A thread has one chunk of channels at every so many pixels; the threads of a warp and the warps of the block add up
// what they have of a channel, and one thread for each channel goes on with it.
//
// Where the channels side by side are too few to fill a chunk, it has those of `fold` pixels. The kernel takes all of
// them for channels of one pixel, until their sums are made one.
//
// The modes are those of planes.h.
#pragma once

#include "planes.h"

namespace simam::cuda {

constexpr int kMostChannels = 128;  // of a tile
constexpr int kMostTileParts = 8;   // blocks of a cluster

template <class Access, int kHeld, Mode mode, bool kEpilogue>
struct Tiles {
  using T = typename Access::T;
  using Element = typename T::Element;
  using Chunk = typename Access::Chunk;
  static constexpr int kCount = Access::kCount;

  // Of a block; behind it lie slots for sums: a float for each channel of the tile and each warp, twice, or three for
  // each thread, whichever are more.
  struct Shared {
    Moments parts[mode == Mode::cluster ? kMostTileParts * kMostChannels : 1];
    float mean[kMostChannels];
    Gate gates[kMostChannels];
  };

  template <class Block>
  static SIMAM_DEVICE void run(Problem const& p, Block const& block) {
    if constexpr (mode == Mode::cluster) block.cluster_begin();
    auto const number = static_cast<int>(block.index());
    int const tile_number = number / p.parts;  // of this launch
    int const part = number - tile_number * p.parts;
    int const at = tile_number / p.tiles;
    int const tile = tile_number - at * p.tiles;
    int const shift = log2_of(p.team);
    int const lane = block.thread() & (p.team - 1);
    int const row = block.thread() >> shift;
    int const rows = block.threads() >> shift;
    int const in_tile = lane * kCount;
    int const in_group = tile * p.team * kCount + in_tile;
    int const from = part * p.part;
    int const end = in_group >= p.group ? 0 : p.pixels - from < p.part ? p.pixels : from + p.part;
    Tile const here{in_tile, p.team * kCount, from + row, rows, end};
    // Of this thread's first pixel, and to its next one, in chunks.
    int64_t const start = (((p.first + at) * p.pixels + here.pixel) * p.group + in_group) / kCount;
    int64_t const step = static_cast<int64_t>(rows) * p.group / kCount;

    Chunk held[kHeld];
    auto const* const x = block.settled(static_cast<Chunk const*>(p.x) + start);
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i)
      if (here.has(i)) held[i] = block.load(x + i * step);

    auto* const shared = reinterpret_cast<Shared*>(block.shared());
    bool const leads = block.thread() < here.channels;  // this thread goes on with this channel of the tile
    Moments own{};
    if constexpr (mode != Mode::gate) {
      own = moments(block, held, here, p, p.pixels - from < p.part ? p.pixels - from : p.part);
    }
    // Channel after channel, part after part.
    Moments* const workspace = p.workspace + static_cast<int64_t>(tile_number) * p.parts * here.channels;
    if constexpr (mode == Mode::moments) {
      if (leads) workspace[part * here.channels + block.thread()] = own;
    } else {
      if constexpr (mode == Mode::cluster) {
        block.cluster_wait();  // the others have begun
        if (leads)
          for (int to = 0; to < p.parts; ++to)
            block.store_remote(&shared->parts[block.thread() * kMostTileParts + part], to, own);
        block.cluster_arrive();
        block.cluster_wait();
        own = gather(block, here, p, [&](int channel, int i) { return shared->parts[channel * kMostTileParts + i]; });
      }
      if constexpr (mode == Mode::gate)
        own = gather(block, here, p, [&](int channel, int i) { return workspace[i * here.channels + channel]; });
      if (leads) shared->gates[block.thread()] = gate_of<T>(own, p);
      block.sync();
      auto const group = static_cast<uint32_t>(p.first + at) % static_cast<uint32_t>(p.groups);  // all are below 2^31
      int const side_by_side = p.group >> log2_of(p.fold);
      int const first = static_cast<int>(group) * side_by_side;
      int const within = p.fold > 1 ? side_by_side - 1 : -1;  // a mask
      store(block, p, held, here, start, step, [&](int j) { return first + ((in_group + j) & within); });
    }
  }

 private:
  struct Tile {
    int in_tile, channels;  // channels of the tile; in_tile: the thread's first
    int pixel, rows, end;   // the thread's pixels: pixel + i * rows, below end

    SIMAM_DEVICE bool has(int i) const { return pixel + i * rows < end; }
  };

  template <class Block>
  static SIMAM_DEVICE float* slots_of(Block const& block) {
    return reinterpret_cast<float*>(block.shared() + sizeof(Shared));
  }

  // All parts' moments of each channel made one: part(channel, i) is the i-th. A thread adds up every so many of them.
  template <class Block, class Part>
  static SIMAM_DEVICE Moments gather(Block const& block, Tile const& here, Problem const& p, Part const& part) {
    int const channel = block.thread() & (here.channels - 1);
    int const step = block.threads() >> log2_of(here.channels);
    int const first = block.thread() >> log2_of(here.channels);
    float* const slots = slots_of(block);
    auto const over_all = [&](float const* own) {
      LongSum all;
      for (int i = 0; i < step; ++i) all.add(own[i * here.channels + channel]);
      return all.sum;
    };
    float const centre = part(channel, 0).mean;
    LongSum off;
    SIMAM_UNROLL_BY_4
    for (int i = first; i < p.parts; i += step) {
      Moments const each = part(channel, i);
      off.add(each.count * apart_of(each, centre, 0));
    }
    slots[block.thread()] = off.sum;
    block.sync();
    Moments const mean = mean_of(centre, static_cast<float>(p.pixels * p.fold), over_all(slots));
    LongSum rest;
    LongSum squares;
    SIMAM_UNROLL_BY_4
    for (int i = first; i < p.parts; i += step) {
      Moments const each = part(channel, i);
      float const apart = apart_of(each, mean.mean, mean.rest);
      rest.add(each.count * apart);
      squares.add(fused_multiply_add(each.count * apart, apart, each.m2));
    }
    float* const of_rest = slots + block.threads();
    float* const of_squares = of_rest + block.threads();
    of_rest[block.thread()] = rest.sum;
    of_squares[block.thread()] = squares.sum;
    block.sync();
    return merged(mean, over_all(of_rest), over_all(of_squares));
  }

  // The sums over the warp go into its slots. Of the channels that two threads add up, each goes on with half.
  template <class Block>
  static SIMAM_DEVICE void put(Block const& block, Tile const& here, float (&v)[kCount], float* slots) {
    int const lanes = here.channels / kCount;
    int at = here.in_tile;  // channel of v[0]
    int count = kCount;
    bool writes = true;
    SIMAM_UNROLL
    for (int bit = kWarp / 2, half = kCount / 2; bit > 0; bit /= 2, half /= 2) {
      if (bit < lanes) continue;
      bool const upper = (block.thread() & bit) != 0;
      for (int j = 0; j < half; ++j) {
        float const other = block.other(upper ? v[j] : v[j + half], bit);
        v[j] = (upper ? v[j + half] : v[j]) + other;
      }
      if (half > 0) {
        at += upper ? half : 0;
        count = half;
      } else {
        v[0] += block.other(v[0], bit);
        writes = writes && !upper;
      }
    }
    float* const own = slots + block.thread() / kWarp * here.channels + at;
    for (int j = 0; j < kCount; ++j)
      if (writes && j < count) own[j] = v[j];
  }

  // Of the channel that this thread goes on with: over the warps, and the pixels of a chunk.
  template <class Block>
  static SIMAM_DEVICE float over_warps(Block const& block, Tile const& here, Problem const& p, float const* slots) {
    int const step = here.channels >> log2_of(p.fold);
    float sum = 0;
    for (int i = block.thread() & (step - 1); i < block.threads() / kWarp * here.channels; i += step) sum += slots[i];
    return sum;
  }

  // Of the channel that this thread goes on with.
  template <class Block>
  static SIMAM_DEVICE Moments moments(Block const& block, Chunk const (&held)[kHeld], Tile const& here,
                                      Problem const& p, int length) {
    auto* const shared = reinterpret_cast<Shared*>(block.shared());
    float* const slots = slots_of(block);
    float* const more_slots = slots + block.threads() / kWarp * here.channels;
    bool const leads = block.thread() < here.channels;
    auto const count = static_cast<float>(length * p.fold);
    float v[kCount];
    float sum[kCount] = {};
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i)
      if (here.has(i)) {
        widen<Access>(held[i], v);
        for (int j = 0; j < kCount; ++j) sum[j] += v[j];
      }
    put(block, here, sum, slots);
    block.sync();
    if (leads) shared->mean[block.thread()] = over_warps(block, here, p, slots) * reciprocal(count);
    block.sync();
    float off[kCount] = {};
    float squares[kCount] = {};
    float mean[kCount];
    for (int j = 0; j < kCount; ++j) mean[j] = shared->mean[here.in_tile + j];
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i)
      if (here.has(i)) {
        widen<Access>(held[i], v);
        for (int j = 0; j < kCount; ++j) {
          float const d = v[j] - mean[j];
          off[j] += d;
          squares[j] = fused_multiply_add(d, d, squares[j]);
        }
      }
    put(block, here, off, slots);
    put(block, here, squares, more_slots);
    block.sync();
    if (!leads) return {};
    return about(shared->mean[block.thread()], count, over_warps(block, here, p, slots),
                 over_warps(block, here, p, more_slots));
  }

  // channel(j): the channel of element j in its image. Elements beyond the last channel are written as zeros.
  template <class Block, class Channel>
  static SIMAM_DEVICE void store(Block const& block, Problem const& p, Chunk const (&held)[kHeld], Tile const& here,
                                 int64_t start, int64_t step, Channel const& channel) {
    auto const* const shared = reinterpret_cast<Shared const*>(block.shared());
    auto* const y = block.settled(static_cast<Chunk*>(p.y) + start);
    Chunk const* residual = nullptr;
    if constexpr (kEpilogue)
      if (p.residual != nullptr) residual = static_cast<Chunk const*>(p.residual) + start;
    bool padded = false;  // some channels are beyond the last one
    for (int j = 0; j < kCount; ++j) padded = padded || channel(j) >= p.channels;
    Gate gates[kCount];
    // Of 16 channels the parameters are not kept: there are not so many registers.
    constexpr bool kKept = kCount <= 8;
    Epilogue last[kCount];
    for (int j = 0; j < kCount; ++j) {
      int const at = here.in_tile + j;
      gates[j] = shared->gates[at];
      if constexpr (kEpilogue && kKept) last[j] = epilogue_of<T>(p, channel(j));
    }
    Chunk next{};  // as in planes.h
    if (kEpilogue && residual != nullptr && here.has(0)) next = block.load(residual);
    float v[kCount];
    float more[kCount] = {};
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i)
      if (here.has(i)) {
        widen<Access>(held[i], v);
        if constexpr (kEpilogue)
          if (residual != nullptr) {
            widen<Access>(next, more);
            if (i + 1 < kHeld && here.has(i + 1)) next = block.load(residual + (i + 1) * step);
          }
        apply_epilogue<T, kEpilogue>(
            v, more, [&](int j) { return gates[j]; },
            [&](int j) { return kKept ? last[j] : epilogue_of<T>(p, channel(j)); }, p);
        if (padded)
          for (int j = 0; j < kCount; ++j)
            if (channel(j) >= p.channels) v[j] = 0;
        block.store(y + i * step, narrow<Access>(v));
      }
  }
};

}  // namespace simam::cuda
