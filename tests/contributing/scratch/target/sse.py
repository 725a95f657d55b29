"""Processors with vectors of four numbers, and half as many of these."""

from autoprune.passes.kernels.target import TARGETS, X86, Target

TARGETS.add("x86-64-v2", Target("x86-64-v2", X86, "x86-64-v2", 4, 16, ("sse4_2",)))
