"""How close is equal, and how far is different: every number the tests compare with, named."""

ROUNDING_DOUBLE = 1e-9
"""Two ways to sum the same float64 products in a network of a few layers differ by some 1e-15."""

ROUNDING_SINGLE = 1e-4
"""The same in float32: some 1e-7 a sum, with room for a few layers."""

DIFFERENT = 1e-6
"""Float64 outputs that differ by more than this differ by more than any rounding explains."""

BUDGET = 0.01
"""The share of the full cost by which `prune` may miss a budget, as its documentation says."""

CUT = 1e-5
"""Cut against zeroed outputs of whole float32 networks, relative to the largest output: up to a
thousand layers of rounding, each of some 1e-7; a wrong slice is of order one."""

ROUNDING_HALF = 1e-3
"""The same for outputs in float16, which has 11 bits; sums are in float32."""
