"""Arrays that come in, and arrays stored in an artifact, against what the manifest declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError
from .manifest import StoredArray, TensorSpec

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the name of the input or output they belong to."""


def check_inputs(arrays: Arrays, specs: Sequence[TensorSpec]) -> None:
    """Check that arrays are what a network takes.

    Raises:
        InputError: naming the first input that is missing, unknown, or not as declared.
    """
    names = [spec.name for spec in specs]
    expected = "; ".join(map(str, specs)) or "none"
    if not isinstance(arrays, Mapping):
        raise InputError("the inputs are no mapping from names to arrays", hint=f"pass {expected}")
    for name in [*names, *arrays]:
        if name not in arrays or name not in names:
            problem = "is missing" if name in names else "is unknown"
            raise InputError(f"an input {problem}", where=str(name), hint=f"inputs are {expected}")
    sizes: dict[str, int] = {}
    for spec in specs:
        _check_input(arrays[spec.name], spec, sizes)


def _check_input(array: Any, spec: TensorSpec, sizes: dict[str, int]) -> None:
    """Check one input; `sizes` holds, and gets, the sizes that have names."""

    def wrong(what: str) -> InputError:
        return InputError(what, where=f"input {spec.name}", hint=f"pass {spec}")

    if not isinstance(array, np.ndarray):
        raise wrong(f"the input is of type {type(array).__name__}, not a numpy array")
    if array.dtype != np.dtype(spec.dtype):
        raise wrong(f"the input has dtype {array.dtype}")
    if array.ndim != len(spec.shape):
        raise wrong(f"the input has {array.ndim} axes, not {len(spec.shape)}")
    for axis, (dim, size) in enumerate(zip(spec.shape, array.shape, strict=True)):
        expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
        if expected is not None and size != expected:
            name = f" ({dim})" if isinstance(dim, str) else ""
            raise wrong(f"axis {axis}{name} of the input has size {size}, not {expected}")


def load_arrays(
    stored: Mapping[str, StoredArray], specs: Sequence[TensorSpec], members: Mapping[str, bytes]
) -> dict[str, NDArray[Any]]:
    """The arrays of a test vector, from the members of an artifact."""
    arrays = {}
    for spec in specs:
        array = stored[spec.name]
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        flat = np.frombuffer(members[array.member], dtype).astype(spec.dtype)
        arrays[spec.name] = flat.reshape(array.shape)
    return arrays


def array_bytes(array: NDArray[Any]) -> bytes:
    """An array as an artifact stores it: little-endian, row-major."""
    return array.astype(array.dtype.newbyteorder("<")).tobytes()
