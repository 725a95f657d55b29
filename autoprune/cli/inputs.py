"""Example inputs as they are typed on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprune.errors import AutopruneError

_INPUT = re.compile(
    r"(?:(?P<name>[^=]+)=)?(?P<shape>[^=:]+)(?::(?P<dtype>[^:]+))?(?::(?P<below>[^:]+))?"
)
LARGEST = 2**32
"""Elements of the largest input."""

DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One `--input`.

    Attributes:
        shape: sizes of the tensor.
        dtype: a dtype by name.
        name: keyword of the forward method or name of an ONNX input, or empty for a positional
            input.
        below: integers are drawn from 0 to one less than this.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    name: str = ""
    below: int = 2

    def array(self, rng: np.random.Generator) -> NDArray[Any]:
        """Random values of this shape and dtype; float32 for bfloat16, which numpy lacks."""
        if self.dtype == "bool":
            return np.ones(self.shape, dtype=bool)
        if "int" in self.dtype:
            return rng.integers(0, self.below, self.shape).astype(self.dtype)
        dtype = "float32" if self.dtype == "bfloat16" else self.dtype
        return rng.standard_normal(self.shape).astype(dtype)


def parse_input(text: str) -> InputSpec:
    """Read `1x3x224x224`, `ids=1x128:int64` or `ids=1x128:int64:30522`.

    Raises:
        AutopruneError: saying which part is wrong.
    """
    hint = "write 1x3x224x224, or name=1x128:int64, or name=1x128:int64:30522 (values below 30522)"

    def wrong(what: str) -> AutopruneError:
        return AutopruneError(what, where=f"--input {text}", hint=hint)

    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise wrong("an input is [name=]shape[:dtype[:upper bound]]")
    sizes = match["shape"].split("x")
    if not all(_is_whole(size) and int(size) > 0 for size in sizes):
        raise wrong(f"{match['shape']!r} is no shape: sizes are whole numbers joined by 'x'")
    if prod(map(int, sizes)) > LARGEST:
        raise wrong(f"an input of shape {match['shape']} does not fit into memory")
    dtype = match["dtype"] or "float32"
    if dtype not in DTYPES:
        raise wrong(f"{dtype!r} is no dtype; known are {', '.join(DTYPES)}")
    if any(letter.isspace() for letter in match["name"] or ""):
        raise wrong(f"{match['name']!r} is no name of an input")
    below = match["below"]
    if below is not None and (not _is_whole(below) or int(below) < 1 or "int" not in dtype):
        raise wrong("an upper bound is a whole number from 1, for an integer input")
    return InputSpec(
        tuple(int(size) for size in sizes), dtype, match["name"] or "", int(below or 2)
    )


def _is_whole(text: str) -> bool:
    """Whether it is a number that an int64 can hold."""
    return text.isascii() and text.isdigit() and len(text) < 19


def make_arrays(specs: Sequence[InputSpec]) -> Any:
    """Random example inputs: a tuple of arrays, or a dict of them where they are named.

    Raises:
        AutopruneError: if only some are named, or a name comes twice.
    """
    rng = np.random.default_rng(0)
    named = [spec.name for spec in specs if spec.name]
    if named and len(named) < len(specs):
        raise AutopruneError(
            "some inputs are named and some are not", hint="name all of them, or none"
        )
    if len(set(named)) < len(named):
        raise AutopruneError("an input is given twice", where="--input " + ", ".join(named))
    arrays = [spec.array(rng) for spec in specs]
    return dict(zip(named, arrays, strict=True)) if named else tuple(arrays)
