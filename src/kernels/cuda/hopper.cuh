#pragma once
/// Hopper's own instructions (PTX ISA, sm_90a), one function each: barriers in shared memory, the bulk copy engine,
/// registers moved between warp groups, clusters of two blocks.

#include <cuda.h>

#include <cstdint>

namespace moesaic::cuda::hopper {

__device__ inline std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// A barrier in shared memory: its phase ends when `arrivals` have come and the bytes they announced have landed.
using Barrier = std::uint64_t;

__device__ inline void initialise(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals));
}
/// Makes initialised barriers known to the cluster and to the copy engine.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

/// Waits until the phase of this parity has ended. Whoever waits must have seen the phase before end: a barrier knows
/// its phases by their parity alone.
__device__ inline void wait(Barrier& barrier, std::uint32_t parity) {
  std::uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.b32 %0, 1, 0, done;\n"
        "}"
        : "=r"(done)
        : "r"(shared_address(&barrier)), "r"(parity)
        : "memory");
  }
}

/// Arrives and announces `bytes` that copies will bring.
__device__ inline void arrive_expecting(Barrier& barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}

/// Arrives at the barrier of the same address in block `rank` of the cluster. Orders nothing beyond the block (a fence
/// for the device at every step halves the rate of products): what was read had been read when the products ended.
__device__ inline void arrive_at(Barrier& barrier, std::uint32_t rank) {
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}" ::"r"(shared_address(&barrier)),
      "r"(rank)
      : "memory");
}

/// Where a box of a tensor begins: element of the row's piece of 64, row, piece, matrix.
struct Place {
  int row, piece, matrix;
};

/// Fetches a box to shared memory; its bytes count at `barrier`.
__device__ inline void copy_box(const CUtensorMap& map, Place from, void* to, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
      "[%6];" ::"r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(from.row), "r"(from.piece), "r"(from.matrix), "r"(shared_address(&barrier))
      : "memory");
}

/// The same to both blocks of the cluster, at the same addresses, counted at each block's own barrier.
__device__ inline void copy_box_to_both(const CUtensorMap& map, Place from, void* to, Barrier& barrier) {
  constexpr std::uint16_t both = 3;
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(from.row), "r"(from.piece), "r"(from.matrix), "r"(shared_address(&barrier)), "h"(both)
      : "memory");
}

/// How long L2 is to keep the lines of an access.
using CachePolicy = std::uint64_t;
__device__ inline CachePolicy evict_first() {
  CachePolicy policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ inline CachePolicy evict_last() {
  CachePolicy policy;
  asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

/// Both with a policy.
__device__ inline void copy_box(const CUtensorMap& map, Place from, void* to, Barrier& barrier, CachePolicy policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(from.row), "r"(from.piece), "r"(from.matrix), "r"(shared_address(&barrier)), "l"(policy)
      : "memory");
}
__device__ inline void copy_box_to_both(const CUtensorMap& map, Place from, void* to, Barrier& barrier,
                                        CachePolicy policy) {
  constexpr std::uint16_t both = 3;
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1, {%2, %3, %4, %5}], [%6], %7, %8;" ::"r"(shared_address(to)),
      "l"(&map), "r"(0), "r"(from.row), "r"(from.piece), "r"(from.matrix), "r"(shared_address(&barrier)), "h"(both),
      "l"(policy)
      : "memory");
}

/// Stores a box from shared memory; what lies outside of the tensor is left out.
__device__ inline void send_box(const CUtensorMap& map, Place to, const void* from, CachePolicy policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group.L2::cache_hint [%0, {%1, %2, %3, %4}], [%5], %6;\n"
      "cp.async.bulk.commit_group;" ::"l"(&map),
      "r"(0), "r"(to.row), "r"(to.piece), "r"(to.matrix), "r"(shared_address(from)), "l"(policy)
      : "memory");
}
/// Waits until the shared memory of all boxes that this thread sent, but for the last `pending`, has been read.
template <int pending> __device__ inline void wait_for_sends() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}

/// Copies 16 bytes to shared memory; copies committed together are waited for together, by the thread that started
/// them.
__device__ inline void copy_vector(const uint4* from, uint4* to) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
/// The same with a policy for L2.
__device__ inline void copy_vector(const uint4* from, uint4* to, CachePolicy policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "l"(policy)
               : "memory");
}
/// The same of 4 bytes.
__device__ inline void copy_word(const float* from, float* to) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
/// The same to an address in shared memory.
__device__ inline void copy_vector(const void* from, std::uint32_t to) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
/// Arrives at the barrier once this thread's copies so far have landed; the barrier counts it as any arrival.
__device__ inline void arrive_when_copied(Barrier& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&barrier)) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most `pending` committed groups are under way.
template <int pending> __device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/// Makes ordinary writes to shared memory visible to the tensor cores and the copy engine.
__device__ inline void fence_shared_writes() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline std::uint32_t rank_in_cluster() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void synchronise_cluster() {
  asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
}
/// Barrier `number` of the block ends when `threads` threads have arrived; `synchronise` waits for that.
__device__ inline void synchronise_threads(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ inline void arrive_threads(int number, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

template <int registers> __device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers> __device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

/// Two f32 as two bf16, the first in the lower half.
__device__ inline std::uint32_t pack_bf16(float first, float second) {
  std::uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(second), "f"(first));
  return packed;
}

/// Stores four 8 x 8 matrices of bf16 that lie spread over a warp; lane l names the address of row l % 8 of matrix
/// l / 8.
__device__ inline void store_matrices(void* row, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}

/// Loads them so.
__device__ inline void load_matrices(const void* row, std::uint32_t& a, std::uint32_t& b, std::uint32_t& c,
                                     std::uint32_t& d) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(a), "=r"(b), "=r"(c), "=r"(d)
               : "r"(shared_address(row))
               : "memory");
}

}  // namespace moesaic::cuda::hopper
