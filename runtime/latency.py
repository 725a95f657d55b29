"""Measuring how long a run takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MIN_RUNS = 5


@dataclass(frozen=True, slots=True)
class Latency:
    """Durations of runs, in seconds.

    Attributes:
        backend: what ran, as `Session.backend`.
        runs: how many runs were timed.
        minimum: the shortest.
        median: half of the runs took no longer.
        p90: nine of ten took no longer.
        p99: 99 of 100 took no longer.
    """

    backend: str
    runs: int
    minimum: float
    median: float
    p90: float
    p99: float

    def __str__(self) -> str:
        rows = (("median", self.median), ("min", self.minimum), ("90 %", self.p90))
        times = ", ".join(f"{name} {1e3 * value:.3f} ms" for name, value in rows)
        return f"{self.backend}: {times}, 99 % {1e3 * self.p99:.3f} ms ({self.runs} runs)"


def measure(run: Callable[[], object], backend: str, seconds: float) -> Latency:
    """Run for about so long, and a fifth of it before to warm up; at least MIN_RUNS times."""
    _durations(run, seconds / 5)
    times = np.array(_durations(run, seconds))
    median, p90, p99 = (float(q) for q in np.quantile(times, (0.5, 0.9, 0.99)))
    return Latency(backend, len(times), float(times.min()), median, p90, p99)


def _durations(run: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
