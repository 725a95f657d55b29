"""How much of what `make fuzz` tries `make test` tries too."""

import os
from collections.abc import Iterable
from zlib import crc32

FUZZ = os.environ.get("AUTOPRUNE_FUZZ")
"""How many random examples to draw, in the long run."""


def examples(few: int) -> int:
    """How many random examples to draw, in this run."""
    return int(FUZZ or few)


def sampled(names: Iterable[str], one_in: int) -> list[str]:
    """All names in the long run, otherwise about one in so many.

    The checksum of a name decides, so that every run tries the same ones, whatever is added.
    """
    return [name for name in names if FUZZ or crc32(name.encode()) % one_in == 0]
