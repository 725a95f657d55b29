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
        inputs: what it ran on, such as `x: float32[1,3,224,224]`.
        runs: how many runs were timed.
        minimum: the shortest.
        lower: a quarter of the runs took no longer.
        median: half of the runs took no longer.
        upper: three quarters of the runs took no longer.
        p90: nine of ten took no longer.
        p99: 99 of 100 took no longer.
    """

    backend: str
    inputs: str
    runs: int
    minimum: float
    lower: float
    median: float
    upper: float
    p90: float
    p99: float

    def __str__(self) -> str:
        rows = (
            ("median", self.median), ("min", self.minimum), ("25 %", self.lower),
            ("75 %", self.upper), ("90 %", self.p90), ("99 %", self.p99),
        )  # fmt: skip
        times = ", ".join(f"{name} {1e3 * value:.3f}" for name, value in rows)
        return f"{self.backend}, {self.inputs}\n{times} ms ({self.runs} runs)"


def measure(run: Callable[[], object], backend: str, inputs: str, seconds: float) -> Latency:
    """Run for about so long, and a fifth of it before to warm up; at least MIN_RUNS times."""
    _durations(run, seconds / 5)
    times = np.array(_durations(run, seconds))
    quantiles = (float(q) for q in np.quantile(times, (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)))
    return Latency(backend, inputs, len(times), *quantiles)


def _durations(run: Callable[[], object], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MIN_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
