"""When a learner does what, counted in steps of the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

from autoprune.errors import LearnerError

Ramp = Callable[[float], float]
"""From progress between 0 and 1 to the share of a quantity reached then, rising from 0 to 1."""


@dataclass(frozen=True)
class Polynomial:
    """`1 - (1 - progress) ** power`: linear for power 1, fast at first for higher ones.

    Power 3 is the schedule of gradual magnitude pruning (Zhu and Gupta, 2017, equation 1).
    """

    power: float = 1.0

    def __call__(self, progress: float) -> float:
        return float(1 - (1 - progress) ** self.power)


@dataclass(frozen=True)
class Cosine:
    """Half a period of a cosine: slow at both ends."""

    def __call__(self, progress: float) -> float:
        return (1 - cos(pi * progress)) / 2


@dataclass(frozen=True)
class Schedule:
    """The parts of a training run: warm-up, pruning in periods, and training what is left.

    Attributes:
        steps: optimizer steps of the whole run.
        start: first step of the pruning part.
        length: steps of one period.
        periods: number of periods; after the last one the target is met.
        ramp: share of the units to remove that has been chosen after a share of the periods.
    """

    steps: int
    start: int
    length: int
    periods: int
    ramp: Ramp = Polynomial()

    @property
    def stop(self) -> int:
        """The step before which everything that goes is zero."""
        return self.start + self.periods * self.length

    @property
    def last_period(self) -> int:
        """First step of the last period."""
        return self.stop - self.length

    def period(self, step: int) -> tuple[int, int]:
        """The period that a step lies in, and its place within; of the pruning part only."""
        return divmod(step - self.start, self.length)

    def prunes(self, step: int) -> bool:
        return self.start <= step < self.stop

    def begins_period(self, step: int) -> bool:
        return self.prunes(step) and self.period(step)[1] == 0

    def ends_period(self, step: int) -> bool:
        return self.prunes(step) and self.period(step + 1)[1] == 0

    def wanted(self, period: int, total: int) -> int:
        """Of `total` units that will go, how many are chosen when a period has begun."""
        return round(self.ramp((period + 1) / self.periods) * total)

    def reached(self, done: int) -> float:
        """The share of what is wanted in the end that is wanted once so many steps are done.

        It rises when a period ends, as in equation 1 of Zhu and Gupta (2017).
        """
        ended = min(max((done - self.start) // self.length, 0), self.periods)
        return self.ramp(ended / self.periods)


@dataclass(frozen=True)
class Timing:
    """When the pruning part of a run begins and ends, as shares of its steps.

    Attributes:
        start: share of the steps before it.
        stop: share of the steps by which the target is met.
        periods: number of periods it has; units are chosen when one begins.
        ramp: how the number of units to remove grows over the periods.
    """

    start: float = 0.1
    stop: float = 0.6
    periods: int = 10
    ramp: Ramp = Polynomial()

    def schedule(self, steps: int) -> Schedule:
        """The schedule for a run of so many optimizer steps.

        Raises:
            LearnerError: if the shares are out of order or the steps too few.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise LearnerError(
                f"steps={steps!r} is not a whole number from 1",
                hint="give the number of optimizer steps of the run: len(loader) * epochs",
            )
        if not 0 <= self.start < self.stop <= 1 or self.periods < 1:
            raise LearnerError(
                f"{self} does not say when to prune",
                hint="0 <= start < stop <= 1 are shares of the run, and periods is at least 1",
            )
        first, last = round(steps * self.start), round(steps * self.stop)
        length = (last - first) // self.periods
        if length < 1:
            raise LearnerError(
                f"of steps={steps}, {last - first} are left for {self.periods} periods of pruning",
                hint="train longer, or give a Timing with fewer periods or a larger share",
            )
        return Schedule(steps, first, length, self.periods, self.ramp)
