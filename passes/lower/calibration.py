"""What bytes stand for: the range of every value that is rounded, on calibration data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from autoprune.errors import NotEqualError
from autoprune.frameworks.onnx.run import reader
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.passes.kernels.kernel import Product, Step, Steps

FARTHEST = 1 << 30
"""Steps that an output can be away from zero, before it becomes a byte."""


def step_between(lowest: float, highest: float) -> Step:
    """Bytes for numbers of a range; zero is among them, exactly."""
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    if lowest == highest:
        return Step(1 / 255, 0)
    size = (highest - lowest) / 255
    return Step(size, round(-lowest / size))


def find_steps(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]) -> Steps:
    """Bytes for some values of a model, from their least number to their largest.

    Args:
        model: the model.
        names: of the values.
        feeds: what it runs on.

    Raises:
        NotEqualError: if one of the numbers is not finite.
    """
    ranges, read = dict.fromkeys(names, (0.0, 0.0)), reader(model, names)
    for feed in feeds:
        values = read(feed)
        for name, (lowest, highest) in ranges.items():
            found = float(values[name].min(initial=0)), float(values[name].max(initial=0))
            if not all(abs(number) < float("inf") for number in found):
                raise NotEqualError(
                    "the network computes numbers on the calibration data that are not finite",
                    where=f"value {name}",
                    hint="compile with int8=False, or give other data",
                )
            ranges[name] = min(lowest, found[0]), max(highest, found[1])
    return {name: step_between(*found) for name, found in ranges.items()}


def coarse_enough(parts: Sequence[Product], steps: Steps) -> Steps:
    """Steps with which what convolutions make can be counted by 32 bits, whatever they read.

    A range on calibration data can be as small as one likes, if outputs cancel out there.

    Args:
        parts: that read and make bytes, in order.
        steps: of the values that they read and make.
    """
    coarse = dict(steps)
    for part in parts:
        most = np.abs(part.weight).sum(axis=1, dtype=np.float64) * coarse[part.x].size * 255
        most = most + np.abs(part.bias)
        if part.added is not None:
            most = most + coarse[part.added].size * 255
        made = coarse[part.output]
        coarse[part.output] = replace(made, size=max(made.size, float(most.max()) / FARTHEST))
    return coarse
