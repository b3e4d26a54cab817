// Small planes in NCHW: a block copies many of them into its memory as one piece, in vectors of 16 bytes wherever a
// plane begins, and computes there.
#pragma once

#include "arithmetic.h"

namespace simam::cuda {

// A piece of device memory and its copy: the copy begins as far behind a multiple of 16 as the piece does.
template <class Element>
struct Piece {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(Element));

  Element* outside;  // a multiple of 16 bytes, at or before the piece
  Element* inside;
  int from, to;  // elements behind them

  SIMAM_DEVICE Piece(Element* begin, int count, void* memory) {
    from = static_cast<int>(reinterpret_cast<uintptr_t>(begin) % 16 / sizeof(Element));
    to = from + count;
    outside = begin - from;
    inside = static_cast<Element*>(memory);
  }

  // Four vectors of a thread are under way at once.
  template <bool kAligned, class Block>
  SIMAM_DEVICE void read(Block const& block) const {
    constexpr int kBatch = 4;
    int const step = block.threads() * kVector;
    Bytes16 some[kBatch];
    for (int start = block.thread() * kVector; start < to; start += kBatch * step) {
      SIMAM_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        int const i = start + b * step;
        if (is_whole<kAligned>(i)) some[b] = block.load(reinterpret_cast<Bytes16 const*>(outside + i));
      }
      SIMAM_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        int const i = start + b * step;
        if (is_whole<kAligned>(i)) *reinterpret_cast<Bytes16*>(inside + i) = some[b];
        if constexpr (!kAligned)
          if (!is_whole<kAligned>(i)) edge(i, [&](int j) { inside[j] = block.load(outside + j); });
      }
    }
  }

  template <bool kAligned, class Block>
  SIMAM_DEVICE void write(Block const& block) const {
    for (int i = block.thread() * kVector; i < to; i += block.threads() * kVector) {
      if (is_whole<kAligned>(i)) block.store(reinterpret_cast<Bytes16*>(outside + i), *reinterpret_cast<Bytes16*>(inside + i));
      if constexpr (!kAligned)
        if (!is_whole<kAligned>(i)) edge(i, [&](int j) { block.store(outside + j, inside[j]); });
    }
  }

 private:
  // Whether all of the vector at i is of the piece. kAligned: it begins and ends at multiples of 16 bytes.
  template <bool kAligned>
  SIMAM_DEVICE bool is_whole(int i) const {
    return kAligned ? i < to : i >= from && i + kVector <= to;
  }

  template <class Work>
  SIMAM_DEVICE void edge(int i, Work const& work) const {
    for (int j = i < from ? from : i; j < i + kVector && j < to; ++j) work(j);
  }
};

template <class Format, int kHeld, bool kAligned, bool kFused>
struct Small {
  using T = Format;
  using Element = typename T::Element;

  // Bytes that a block needs: two pieces, each with room for where it begins.
  template <class Block>
  static SIMAM_DEVICE void run(Problem const& p, Block const& block) {
    int const first = static_cast<int>(block.index()) * p.per_block;
    int const planes = p.count - first < p.per_block ? p.count - first : p.per_block;
    int const count = planes * p.pixels;
    int64_t const start = (p.first + first) * p.pixels;
    int const room = (p.per_block * p.pixels * static_cast<int>(sizeof(Element)) + 31) / 16 * 16;
    Piece<Element> const x(const_cast<Element*>(static_cast<Element const*>(p.x)) + start, count, block.shared());
    x.template read<kAligned>(block);
    Element const* residual = nullptr;
    if constexpr (kFused)
      if (p.residual != nullptr) {
        Piece<Element> const more(const_cast<Element*>(static_cast<Element const*>(p.residual)) + start, count,
                                  block.shared() + room);
        more.template read<kAligned>(block);
        residual = more.inside + more.from;
      }
    block.sync();
    int const shift = log2_of(p.team);
    for (int done = 0; done < planes; done += block.threads() >> shift)
      work(block, p, x.inside + x.from, residual, done + (block.thread() >> shift), planes, first);
    block.sync();
    write(block, p, x, start, count);
  }

 private:
  template <class Block>
  static SIMAM_DEVICE void work(Block const& block, Problem const& p, Element* planes_of_x, Element const* residual,
                                int plane, int planes, int first) {
    int const lane = block.thread() & (p.team - 1);
    int const pixels = plane < planes ? p.pixels : 0;  // the other lanes of the warp need this one for their sums
    Element* const x = planes_of_x + plane * p.pixels;
    float v[kHeld] = {};  // beyond the end: zeros
    float sum = 0;
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      if (i * p.team + lane < pixels) v[i] = T::widen(x[i * p.team + lane]);
      sum += v[i];
    }
    auto const count = static_cast<float>(p.pixels);
    float const mean = sum_of(block, sum, 1, p.team) * reciprocal(count);
    float off = 0;
    float squares = 0;
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i) {
      float const d = i * p.team + lane < pixels ? v[i] - mean : 0;
      off += d;
      squares = fused_multiply_add(d, d, squares);
    }
    off = sum_of(block, off, 1, p.team);
    squares = sum_of(block, squares, 1, p.team);
    Gate const gate = gate_of<T>(about(mean, count, off, squares), p);
    Finish last{1, 0};
    if constexpr (kFused)
      last = finish_of<T>(
          p, static_cast<int>(static_cast<uint32_t>(p.first + first + plane) % static_cast<uint32_t>(p.channels)));
    float more[kHeld] = {};
    if constexpr (kFused)
      if (residual != nullptr)
        for (int i = 0; i < kHeld; ++i)
          if (i * p.team + lane < pixels) more[i] = T::widen(residual[plane * p.pixels + i * p.team + lane]);
    finish<T, kFused>(v, more, [&](int) { return gate; }, [&](int) { return last; }, p);
    SIMAM_UNROLL
    for (int i = 0; i < kHeld; ++i)
      if (i * p.team + lane < pixels) x[i * p.team + lane] = T::narrow(v[i]);
  }

  // Where y begins elsewhere between two multiples of 16 than x, it is written element by element.
  template <class Block>
  static SIMAM_DEVICE void write(Block const& block, Problem const& p, Piece<Element> const& x, int64_t start,
                                 int count) {
    Piece<Element> const y(static_cast<Element*>(p.y) + start, count, x.inside);
    if (kAligned || y.from == x.from) {
      y.template write<kAligned>(block);
    } else {
      for (int i = block.thread(); i < count; i += block.threads())
        block.store(y.outside + y.from + i, x.inside[x.from + i]);
    }
  }
};

}  // namespace simam::cuda
