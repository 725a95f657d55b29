/* CUDA as far as the kernels need it, on one thread of a CPU.
 *
 * Every thread of a thread block is a context of its own, which runs until it meets a barrier or
 * ends; then the next one does. From one barrier to the next their order is reversed, so that a
 * value which one thread writes and another one reads without a barrier between is wrong once.
 */
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
/* Among the words of a declaration, which nvcc accepts and C++ does not. */
#define alignas(bytes) __attribute__((aligned(bytes)))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };

template <typename T> static T min(T a, T b) { return b < a ? b : a; }
template <typename T> static T max(T a, T b) { return a < b ? b : a; }

static dim3 blockIdx, threadIdx;
static ucontext_t scheduler;
static std::vector<ucontext_t> contexts;
static std::vector<std::vector<char>> stacks;
static std::vector<bool> ended;
static std::function<void()> work;
static unsigned current;

static void __syncthreads() { swapcontext(&contexts[current], &scheduler); }

static void enter() {
  work();
  ended[current] = true;
  swapcontext(&contexts[current], &scheduler);
}

static void run_block(unsigned threads) {
  contexts.resize(threads);
  stacks.resize(threads, std::vector<char>(1 << 16));
  ended.assign(threads, false);
  for (unsigned t = 0; t < threads; ++t) {
    getcontext(&contexts[t]);
    contexts[t].uc_stack.ss_sp = stacks[t].data();
    contexts[t].uc_stack.ss_size = stacks[t].size();
    makecontext(&contexts[t], enter, 0);
  }
  unsigned left = threads;
  for (bool forward = true; left; forward = !forward) {
    for (unsigned i = 0; i < threads; ++i) {
      current = forward ? i : threads - 1 - i;
      if (ended[current]) continue;
      threadIdx = dim3(current, 0, 0);
      swapcontext(&scheduler, &contexts[current]);
      left -= ended[current];
    }
  }
}

static void run_grid(dim3 grid, unsigned threads, std::function<void()> kernel) {
  work = kernel;
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = dim3(x, y, 0);
      run_block(threads);
    }
}

typedef int cudaError_t;
static cudaError_t cudaGetLastError() { return 0; }
static const char* cudaGetErrorString(cudaError_t) { return "no error"; }

#define LAUNCH(kernel, grid, threads, stream, ...) run_grid(grid, threads, [&] { kernel(__VA_ARGS__); })
#define EXPORT extern "C" __attribute__((visibility("default")))
EXPORT const char* autoprune_device() { return "cpu"; }
