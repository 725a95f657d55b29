"""What was measured of the time of one inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


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
