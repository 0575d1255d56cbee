#pragma once
/// Products on Hopper's tensor cores: a group of four warps multiplies matrices that lie in shared memory.

#include <cstdint>

namespace moesaic::cuda::hopper {

/// Which axis of an operand is contiguous: the summed one (k), or the outer one (m or n).
enum class Major { summed, outer };

/// Describes a matrix of bf16 in shared memory, laid out by the copy engine in rows of 128 bytes with its 128-byte
/// swizzle, the eight rows of a pattern 1024 bytes from the next eight (PTX ISA, matrix descriptor of wgmma).
/// `piece_stride`: bytes from 64 outer elements to the next 64 where the outer axis is contiguous; unused otherwise.
__device__ inline std::uint64_t describe(std::uint32_t address, std::uint32_t piece_stride) {
  constexpr std::uint64_t swizzle_128 = std::uint64_t{1} << 62, rows_stride = std::uint64_t{1024 >> 4} << 32;
  return swizzle_128 | rows_stride | (std::uint64_t{(piece_stride >> 4) & 0x3fff} << 16) | ((address >> 4) & 0x3fff);
}

/// Before the first product, and after registers that products use were touched.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/// Waits until at most `pending` committed groups are under way.
template <int pending> __device__ inline void wait_for_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

/// d [64, n] = a [64, 16] b [16, n] (+ d with `keep`). Thread t of the 128 holds d[4 j + 2 r + c] of row
/// 16 (t / 32) + t % 32 / 4 + 8 r and column 8 j + 2 (t % 4) + c.
template <int n> struct Multiply;

#define MOESAIC_SUMS_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define MOESAIC_SUMS_16(d, i) \
  MOESAIC_SUMS_4(d, i), MOESAIC_SUMS_4(d, i + 4), MOESAIC_SUMS_4(d, i + 8), MOESAIC_SUMS_4(d, i + 12)

template <> struct Multiply<192> {
  template <Major a_major, Major b_major>
  __device__ static void add(float (&d)[96], std::uint64_t a, std::uint64_t b, bool keep) {
    asm volatile(
        "{\n.reg .pred keep;\nsetp.ne.b32 keep, %98, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
        "}, %96, %97, keep, 1, 1, %99, %100;\n}"
        : MOESAIC_SUMS_16(d, 0), MOESAIC_SUMS_16(d, 16), MOESAIC_SUMS_16(d, 32), MOESAIC_SUMS_16(d, 48),
          MOESAIC_SUMS_16(d, 64), MOESAIC_SUMS_16(d, 80)
        : "l"(a), "l"(b), "r"(static_cast<int>(keep)), "n"(static_cast<int>(a_major)), "n"(static_cast<int>(b_major)));
  }
};

#undef MOESAIC_SUMS_16
#undef MOESAIC_SUMS_4

}  // namespace moesaic::cuda::hopper
