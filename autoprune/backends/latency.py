"""Timing two ONNX Runtime sessions in turns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from autoprune.frontends.sessions import Feed

Timed: TypeAlias = tuple[Any, Feed]
"""A session of ONNX Runtime, and the inputs to time it on."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one inference in ONNX Runtime on the CPU.

    Attributes:
        before: median for the original network.
        after: median for the pruned one, measured in turns with the original.
        threads: threads ONNX Runtime was allowed.
        rounds: inferences of each that were timed.
    """

    before: float
    after: float
    threads: int
    rounds: int

    @property
    def speedup(self) -> float:
        """How many times faster the pruned network is."""
        return self.before / self.after


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
    return Latency(medians[0], medians[1], threads, len(times[0]))
