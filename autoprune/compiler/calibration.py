"""What bytes stand for: the range of every value that is rounded, on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from autoprune.errors import NotEqualError
from autoprune.frontends.onnx_run import with_outputs
from autoprune.frontends.sessions import Feed, open_session


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


def values_at(model: onnx.ModelProto, feed: Feed, names: Sequence[str]) -> Feed:
    """Some values that a model computes, or is given."""
    return _reader(model, names)(feed)


def _reader(model: onnx.ModelProto, names: Sequence[str]) -> Callable[[Feed], Feed]:
    """`values_at` for many feeds."""
    given = {value.name for value in model.graph.input}
    wanted = [name for name in dict.fromkeys(names) if name not in given]
    if not wanted:
        return lambda feed: feed
    session = open_session(with_outputs(model, wanted).SerializeToString(), 1)
    return lambda feed: {**feed, **dict(zip(wanted, session.run(wanted, dict(feed)), strict=True))}


def find_steps(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]) -> Steps:
    """Bytes for some values of a model, from their least number to their largest.

    Args:
        model: the model.
        names: of the values.
        feeds: what it runs on.

    Raises:
        NotEqualError: if one of the numbers is not finite.
    """
    ranges, read = dict.fromkeys(names, (0.0, 0.0)), _reader(model, names)
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
