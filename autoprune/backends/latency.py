"""Timing two ONNX Runtime sessions in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from autoprune.frontends.sessions import Feed
from autoprune.ir.graph import spelled

Timed: TypeAlias = tuple[Any, Feed]
"""A session of ONNX Runtime, and the inputs to time it on."""


class Spread(NamedTuple):
    """How far apart durations are: the shortest, and those between which half of them lie."""

    minimum: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"shortest {self.minimum:.3g}, half {self.lower:.3g} to {self.upper:.3g} ms"


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one inference in ONNX Runtime on the CPU.

    Attributes:
        before: median for the original network.
        after: median for the pruned one, measured in turns with the original.
        threads: threads ONNX Runtime was allowed.
        rounds: inferences of each that were timed.
        inputs: what the networks were run on, such as `x: float32[1,3,224,224]`.
        before_spread: of the durations of the original network.
        after_spread: of those of the pruned one.
    """

    before: float
    after: float
    threads: int
    rounds: int
    inputs: str = ""
    before_spread: Spread | None = None
    after_spread: Spread | None = None

    @property
    def speedup(self) -> float:
        """How many times faster the pruned network is."""
        return self.before / self.after

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"{self.speedup:.2f} times as fast in ONNX Runtime, {threads}, {self.inputs}\n"
            f"  before: {self.before:.3g} ms ({self.before_spread or 'one run'})\n"
            f"  after: {self.after:.3g} ms ({self.after_spread or 'one run'})\n"
            f"  medians of {self.rounds} inferences of each, in turns"
        )


def time_in_turns(before: Timed, after: Timed, *, threads: int, seconds: float) -> Latency:
    """Time two sessions in turns, so that both see the same machine.

    Args:
        before: the session of the original network and its inputs.
        after: that of the pruned network and its inputs.
        threads: threads the sessions were opened with.
        seconds: how long to measure; at least five rounds are made.
    """
    pairs = (before, after)
    for session, feed in pairs:
        for _ in range(2):
            session.run(None, feed)
    times: tuple[list[float], list[float]] = ([], [])
    stop = time.perf_counter() + seconds
    while len(times[0]) < 5 or time.perf_counter() < stop:
        for (session, feed), taken in zip(pairs, times, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            taken.append((time.perf_counter() - start) * 1e3)
    medians = [float(np.median(taken)) for taken in times]
    spreads = [
        Spread(*(float(q) for q in np.quantile(taken, (0.0, 0.25, 0.75)))) for taken in times
    ]
    inputs = ", ".join(
        spelled(name, array.dtype.name, array.shape) for name, array in after[1].items()
    )
    return Latency(medians[0], medians[1], threads, len(times[0]), inputs, *spreads)
