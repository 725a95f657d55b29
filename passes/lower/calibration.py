"""What bytes stand for: the range of every value that is rounded, on calibration data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from autoprune.errors import NotEqualError
from autoprune.frameworks.onnx.run import reader
from autoprune.frameworks.onnx.sessions import Feed


@dataclass(frozen=True, slots=True)
class Step:
    """A byte stands for (byte - zero) * size.

    Attributes:
        size: of a step.
        zero: the byte that stands for nothing.
    """

    size: float
    zero: int


Steps = Mapping[str, Step]
"""By the names of values."""


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
