"""What a plan removes from a tensor, read off its JSON alone: the project's own code is not asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray[Any, Any]


def kept_mask(plan: Mapping[str, Any], expressions: list[Any], shape: tuple[int, ...]) -> Array:
    """Which elements of a parameter stay."""
    outers = [choice["outer"] for choice in plan["groups"].values() if "outer" in choice]
    sizes = {name: choice["units"] for name, choice in plan["groups"].items()}
    sizes |= {
        choice["outer"]: len(choice["kept"])
        for choice in plan["groups"].values()
        if "outer" in choice
    }
    units: dict[str, list[Array]] = {}
    for dim, expression in enumerate(expressions):
        at = [1] * len(shape)
        at[dim] = shape[dim]
        for name, index in _units(expression, sizes)[1].items():
            units.setdefault(name, []).append(index.reshape(at))
    mask = np.ones(shape, dtype=bool)
    for name, indices in units.items():
        choice = plan["groups"].get(name)
        if choice is None:
            assert name in outers
            continue
        stays = np.zeros((len(choice["kept"]), choice["units"]) if "outer" in choice else
                         (1, choice["units"]), dtype=bool)  # fmt: skip
        for row, kept in enumerate(choice["kept"] if "outer" in choice else [choice["kept"]]):
            stays[row, kept] = True
        rows = units[choice["outer"]][0] if "outer" in choice else np.zeros(1, int)
        for index in indices:
            mask &= stays[np.maximum(rows, 0), np.maximum(index, 0)] | (index < 0)
    return mask


def _units(expression: Any, sizes: Mapping[str, int]) -> tuple[int, dict[str, Array]]:
    """The size of an axis, and for each group in it the unit of each position, or -1."""
    if isinstance(expression, int):
        return expression, {}
    if isinstance(expression, str):
        return sizes[expression], {expression: np.arange(sizes[expression])}
    [(kind, parts)] = expression.items()
    found = [_units(part, sizes) for part in parts]
    if kind == "sum":
        names = {name for _, units in found for name in units}
        return sum(n for n, _ in found), {
            name: np.concatenate([units.get(name, np.full(n, -1)) for n, units in found])
            for name in names
        }
    size, units = 1, dict[str, Array]()
    for n, inner in found:
        units = {name: np.repeat(index, n) for name, index in units.items()}
        units |= {name: np.tile(index, size) for name, index in inner.items()}
        size *= n
    return size, units


def zeroed(
    model: onnx.ModelProto, cut: onnx.ModelProto, plan: Mapping[str, Any]
) -> onnx.ModelProto:
    """The model with everything that the plan removes from floating-point tensors set to zero.

    Raises:
        AssertionError: if the cut model's tensors are not what the plan leaves of the model's.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    small = {t.name: numpy_helper.to_array(t) for t in cut.graph.initializer}
    for tensor in result.graph.initializer:
        if tensor.name not in plan["parameters"]:
            continue
        array = numpy_helper.to_array(tensor)
        mask = kept_mask(plan, plan["parameters"][tensor.name], array.shape)
        assert np.array_equal(array[mask].ravel(), small[tensor.name].ravel()), (
            f"{tensor.name} is not cut as the plan says"
        )
        if array.dtype.kind == "f" and array.dtype.itemsize > 1:
            tensor.CopyFrom(
                numpy_helper.from_array(np.where(mask, array, array.dtype.type(0)), tensor.name)
            )
    return result
