"""Numbers as people read them."""

from __future__ import annotations


def quantity(n: float) -> str:
    """A count with a decimal prefix: 1234567 becomes 1.23 M."""
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= scale:
            return f"{n / scale:.2f} {prefix}"
    return f"{n:.0f}"


def size_in_bytes(n: float) -> str:
    """A number of bytes with a decimal prefix."""
    return f"{quantity(n)}B" if n >= 1e3 else f"{n:.0f} B"


def milliseconds(t: float) -> str:
    """A duration, to three digits or so."""
    return f"{t:.3g} ms" if t < 100 else f"{t:.0f} ms"


def times_faster(before: float, after: float) -> str:
    """How much less time, in words."""
    return f"{before / after:.2f}x faster" if before >= after else f"{after / before:.2f}x slower"


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun: `count(2, "axis", "axes")` is "2 axes"."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def share(part: float) -> str:
    """A share of a whole in percent; what is not nothing does not show as nothing."""
    if 0 < part < 0.0005:
        return "<0.1 %"
    return f"{part:.1%}".replace("%", " %")
