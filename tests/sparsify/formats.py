"""The sparse formats and matrices that tests try."""

from hypothesis import strategies as st

NAMES = [
    "block 4x1", "block 8x1", "block 16x1", "block 32x1", "block 64x1", "block 1x16", "block 4x3",
    "2:4", "1:4 shared 4", "2:4 shared 3", "3:5", "4:4", "fan-in 3", "fan-in", "csr", "bitmask",
]  # fmt: skip
"""Those of the benchmarks, and some with odd sizes."""

FREE = [name for name in NAMES if ":" not in name and name != "fan-in 3"]
"""Formats that do not say themselves how much is kept."""

sides = st.integers(1, 70)
sparsities = st.floats(0, 0.99)
seeds = st.integers(0, 2**31)


def sparsity_for(name, sparsity):
    return sparsity if name in FREE else None
