/* 16-bit numbers as far as the kernels need them. */
#pragma once
struct half {
  _Float16 number;
  half() = default;
  explicit half(float x) : number((_Float16)x) {}
  explicit operator float() const { return (float)number; }
};
typedef half __half;
struct half2 { half x, y; };
typedef half2 __half2;

static bool __hgt(half a, half b) { return a.number > b.number; }
static bool __hlt(half a, half b) { return a.number < b.number; }
static float __half2float(half x) { return (float)x; }
static half __float2half(float x) { return half(x); }
