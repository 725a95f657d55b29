"""Allocation by latency: keep a share of the FLOPs, measure, and adjust the share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from autoprune.errors import BudgetError
from autoprune.frameworks.network import Network
from autoprune.frameworks.onnx.timing import Timed, time_in_turns
from autoprune.ir.positions import Kept
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.choose import UnitScores, allocate
from autoprune.passes.pruning.request import Request
from autoprune.passes.pruning.scope import Movable
from autoprune.passes.pruning.shares import check_share
from autoprune.report.latency import Latency
from autoprune.report.progress import say

TOLERANCE = 0.03
"""A latency is met if the measured one is at most this share of the original's away from it."""

ROUNDS = 8
"""Networks that are tried at most."""

RESOLUTION = 0.01
"""Shares of the FLOPs that are nearer to each other than this are not told apart."""

SECONDS = 2.0
"""How long each network is measured, in turns with the original."""

LEAST = 1e-3
"""Share of the FLOPs at which everything is gone that may go."""


@dataclass(frozen=True)
class Trial:
    """A choice of units, measured."""

    kept: Kept
    latency: Latency


def allocate_measured(
    network: Network,
    analysis: Analysis,
    movable: Movable,
    scored: UnitScores,
    request: Request,
) -> tuple[Kept, Latency | None]:
    """As `allocate`, also for a latency, which has to be searched for and is returned."""
    name, share = request.budget
    if name != "latency":
        return allocate(analysis, movable, scored, request), None
    original: Timed | None = None

    def attempt(flops: float) -> Trial:
        nonlocal original
        foreseen = replace(request, budget=("flops", flops), tolerance=1.0)
        kept = allocate(analysis, movable, scored, foreseen)
        original = original or network.files.open(network.model, request.options.threads)
        return Trial(kept, measured(network, analysis, kept, original, request.options.threads))

    found = meet_latency(share, attempt)
    return found.kept, found.latency


def measured(
    network: Network, analysis: Analysis, kept: Kept, original: Timed, threads: int
) -> Latency:
    """The latency of a network cut to the units that stay, in turns with the original."""
    say("opening the pruned network in ONNX Runtime")
    pruned = network.files.open(network.cut(analysis.typed, kept).model, threads)
    say("measuring latency")
    return time_in_turns(original, pruned, threads=threads, seconds=SECONDS)


def meet_latency(share: float, attempt: Callable[[float], Trial]) -> Trial:
    """The largest network that is found to take at most `share` of the original's time.

    FLOPs tell little about time, so every network is measured. The first keeps `share` of the
    FLOPs; then time is taken to be linear in FLOPs between the two nearest networks.

    Raises:
        BudgetError: if the share is out of range, or the smallest network still takes longer.
    """
    check_share("latency", share)
    # Shares of the FLOPs and of the time: of the smallest network that is too slow, and of the
    # largest that is fast enough.
    slow, fast = (1.0, 1.0), None
    best: Trial | None = None
    inputs = ""
    for trial in range(ROUNDS):
        flops = share if trial == 0 else _between(slow, fast, share)
        say(f"pruning to {flops:.1%} of the FLOPs")
        result = attempt(flops)
        latency = result.latency
        inputs = latency.inputs
        taken = 1 / latency.speedup
        say(f"{flops:.1%} of the FLOPs take {taken:.1%} of the time: {_spread(latency)}")
        if abs(taken - share) <= TOLERANCE:
            return result
        if taken < share:
            best, fast = result, (flops, taken)
        else:
            slow = (flops, taken)
        lower = fast[0] if fast else LEAST
        if slow[0] - lower < RESOLUTION:
            break
    if best is None:
        raise BudgetError(
            f"latency={share:g} cannot be reached: the smallest network that was tried takes "
            f"{slow[1]:.2f} of the original's time in ONNX Runtime on {inputs}",
            hint="ask for more, ignore less, or time a larger batch: small networks spend their "
            "time between the operators",
        )
    return best


def _spread(latency: Latency) -> str:
    """The medians, and how far the durations are apart."""
    return (
        f"{latency.after:.3g} ms ({latency.after_spread}) instead of {latency.before:.3g} ms "
        f"({latency.before_spread})"
    )


def _between(slow: tuple[float, float], fast: tuple[float, float] | None, share: float) -> float:
    """The share of the FLOPs to try next, from those shares of FLOPs and time that are nearest."""
    if fast is not None:
        place = (share - fast[1]) / (slow[1] - fast[1])
        return fast[0] + min(0.9, max(0.1, place)) * (slow[0] - fast[0])
    slope = (1 - slow[1]) / (1 - slow[0])
    guess = slow[0] + (share - slow[1]) / slope if slope > 0 else slow[0] / 2
    return max(LEAST, guess)
