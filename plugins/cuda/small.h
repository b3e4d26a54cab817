// Small planes in NCHW: a block copies many of them into its memory as one piece, in vectors of 16 bytes wherever a
// plane begins, and computes there. A few lanes share a plane, each with a run of it in its registers; what does not
// make four more elements for each of them is read again from the block's memory.
#pragma once

#include "arithmetic.h"

namespace simam::cuda {

// A piece of device memory and its copy: the copy begins as far behind a multiple of 16 as the piece does.
template <class Element>
struct Piece {
  static constexpr int kVector = 16 / static_cast<int>(sizeof(Element));

  Bytes16* outside;  // a multiple of 16 bytes, at or before the piece
  Bytes16* inside;
  int from, to;  // elements behind them

  SIMAM_DEVICE Piece(Element* begin, int count, void* memory) {
    from = static_cast<int>(reinterpret_cast<uintptr_t>(begin) % 16 / sizeof(Element));
    to = from + count;
    outside = reinterpret_cast<Bytes16*>(begin - from);
    inside = static_cast<Bytes16*>(memory);
  }

  SIMAM_DEVICE Element* copy() const { return reinterpret_cast<Element*>(inside) + from; }

  // Four vectors of a thread are under way at once.
  template <bool kAligned, class Block>
  SIMAM_DEVICE void read(Block const& block) const {
    constexpr int kBatch = 4;
    int const step = block.threads();
    Bytes16 some[kBatch];
    for (int start = block.thread(); start * kVector < to; start += kBatch * step) {
      SIMAM_UNROLL
      for (int b = 0; b < kBatch; ++b)
        if (is_whole<kAligned>(start + b * step))
          some[b] = block.load(static_cast<Bytes16 const*>(outside) + start + b * step);
      SIMAM_UNROLL
      for (int b = 0; b < kBatch; ++b) {
        int const i = start + b * step;
        if (is_whole<kAligned>(i)) inside[i] = some[b];
        if constexpr (!kAligned)
          if (!is_whole<kAligned>(i)) edge(i, [&](Element const* out, Element* in) { *in = block.load(out); });
      }
    }
  }

  template <bool kAligned, class Block>
  SIMAM_DEVICE void write(Block const& block) const {
    for (int i = block.thread(); i * kVector < to; i += block.threads()) {
      if (kAligned || is_whole<false>(i)) block.store(outside + i, inside[i]);
      if constexpr (!kAligned)
        if (!is_whole<false>(i)) edge(i, [&](Element* out, Element const* in) { block.store(out, *in); });
    }
  }

 private:
  // Whether all of a vector is of the piece. kAligned: it begins and ends at multiples of 16 bytes.
  template <bool kAligned>
  SIMAM_DEVICE bool is_whole(int i) const {
    return kAligned ? i * kVector < to : i * kVector >= from && (i + 1) * kVector <= to;
  }

  template <class Work>
  SIMAM_DEVICE void edge(int i, Work const& work) const {
    auto* const out = reinterpret_cast<Element*>(outside);
    auto* const in = reinterpret_cast<Element*>(inside);
    for (int j = i * kVector < from ? from : i * kVector; j < (i + 1) * kVector && j < to; ++j) work(out + j, in + j);
  }
};

// kHeld: elements of a lane's run, at most.
template <class Format, int kHeld, bool kAligned, bool kEpilogue>
struct Small {
  using T = Format;
  using Element = typename T::Element;
  static constexpr int kGroup = 4;  // elements of a run that are there or not as one

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
    if constexpr (kEpilogue)
      if (p.residual != nullptr) {
        Piece<Element> const more(const_cast<Element*>(static_cast<Element const*>(p.residual)) + start, count,
                                  block.shared() + room);
        more.template read<kAligned>(block);
        residual = more.copy();
      }
    block.sync();
    int const shift = log2_of(p.team);
    for (int done = 0; done < planes; done += block.threads() >> shift)
      work(block, p, x.copy(), residual, done + (block.thread() >> shift), planes, first);
    block.sync();
    write(block, p, x, start, count);
  }

 private:
  using Run = float[kHeld / kGroup][kGroup];

  // Where a lane's elements of a plane lie: its run, and from `rest` on every step-th.
  struct Place {
    int run, groups, rest, step, end;
  };

  template <class Work>
  static SIMAM_DEVICE void each_group(Place const& place, Work const& work) {
    SIMAM_UNROLL
    for (int g = 0; g < kHeld / kGroup; ++g)
      if (g < place.groups)
        work(g);
      else
        break;
  }

  template <class Work>
  static SIMAM_DEVICE void each_of_rest(Place const& place, Work const& work) {
    SIMAM_ROLLED
    for (int i = place.rest; i < place.end; i += place.step) work(i);
  }

  template <class Block>
  static SIMAM_DEVICE void work(Block const& block, Problem const& p, Element* x, Element const* residual, int plane,
                                int planes, int first) {
    int const lane = block.thread() & (p.team - 1);
    int const end = plane < planes ? p.pixels : 0;  // the other lanes of the warp need this one for their sums
    int const groups = end / kGroup >> log2_of(p.team);
    Place const place{lane * groups * kGroup, groups, groups * kGroup * p.team + lane, p.team, end};
    x += plane * p.pixels;
    Run run;
    Gate const gate = gate_of<T>(moments(block, p, x, place, run), p);
    Epilogue last{1, 0};
    if constexpr (kEpilogue) {
      last = epilogue_of<T>(
          p, static_cast<int>(static_cast<uint32_t>(p.first + first + plane) % static_cast<uint32_t>(p.channels)));
      if (residual != nullptr) residual += plane * p.pixels;
    }
    auto const put = [&](auto& v, int at) {
      constexpr int kCount = sizeof v / sizeof v[0];
      float more[kCount] = {};
      if constexpr (kEpilogue)
        if (residual != nullptr)
          for (int i = 0; i < kCount; ++i) more[i] = T::widen(residual[at + i]);
      apply_epilogue<T, kEpilogue>(v, more, [&](int) { return gate; }, [&](int) { return last; }, p);
      for (int i = 0; i < kCount; ++i) x[at + i] = T::narrow(v[i]);
    };
    each_group(place, [&](int g) { put(run[g], place.run + g * kGroup); });
    each_of_rest(place, [&](int i) {
      float one[1] = {T::widen(x[i])};
      put(one, i);
    });
  }

  // The plane's, and this lane's run of it.
  template <class Block>
  static SIMAM_DEVICE Moments moments(Block const& block, Problem const& p, Element const* x, Place const& place,
                                      Run& run) {
    float sum[1] = {};
    each_group(place, [&](int g) {
      for (int i = 0; i < kGroup; ++i) sum[0] += run[g][i] = T::widen(x[place.run + g * kGroup + i]);
    });
    each_of_rest(place, [&](int i) { sum[0] += T::widen(x[i]); });
    auto const count = static_cast<float>(p.pixels);
    sum_over(block, p.team, sum);
    float const mean = sum[0] * reciprocal(count);
    float sums[2] = {};  // of x - mean, and of its square
    auto const add = [&](auto const& values) {
      float squares = 0;  // of a few first: a long chain would lose more
      for (float const v : values) {
        float const d = v - mean;
        sums[0] += d;
        squares = fused_multiply_add(d, d, squares);
      }
      sums[1] += squares;
    };
    each_group(place, [&](int g) { add(run[g]); });
    each_of_rest(place, [&](int i) {
      float const one[] = {T::widen(x[i])};
      add(one);
    });
    sum_over(block, p.team, sums);
    return about(mean, count, sums[0], sums[1]);
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
        block.store(static_cast<Element*>(p.y) + start + i, x.copy()[i]);
    }
  }
};

}  // namespace simam::cuda
