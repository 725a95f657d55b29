"""Timing two ONNX Runtime sessions in turns."""

from __future__ import annotations

import time
from typing import Any, TypeAlias

import numpy as np

from autoprune.frameworks.onnx.sessions import Feed
from autoprune.ir.graph import spelled
from autoprune.report.latency import Latency, Spread

Timed: TypeAlias = tuple[Any, Feed]
"""A session of ONNX Runtime, and the inputs to time it on."""


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
