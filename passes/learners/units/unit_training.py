"""Training in which units are brought to zero: what is chosen, what is zero, what comes next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.passes.learners.sharding import held, whole_of
from autoprune.passes.learners.training import Training, TrainingMethod
from autoprune.passes.learners.units.history import Monitor, Record
from autoprune.passes.learners.units.selection import Selection, lowest
from autoprune.passes.learners.units.slices import Units, Zeros


@dataclass(eq=False, kw_only=True)
class UnitTraining(Training):
    """A run that brings units to zero.

    Attributes:
        units: the units of the groups that may shrink.
        selection: the target.
        monitor: what keeps the history.
        chosen: units that will be removed: those shrinking, and those that are zero.
        zero: units that are zero and stay so.
        memory: tensors that a method keeps from step to step, the same in all processes.
        weights: weights that a method keeps from step to step, of each parameter that units lie in.
    """

    maker = "Pruner"
    unfinished = "removing units takes"

    units: Units
    selection: Selection
    monitor: Monitor
    memory: dict[str, Tensor] = field(default_factory=dict, init=False)
    weights: list[Tensor] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.chosen = self.units.none()
        self.zero = self.units.none()
        self._zeros = Zeros(self.units, self.zero)

    @property
    def device(self) -> torch.device:
        return self.units.device

    @property
    def goal(self) -> str:
        cost, part = self.selection.request.budget
        return f"{cost}={f'{part:g}' if isinstance(part, int | float) else part}"

    @property
    def parameters(self) -> Iterator[tuple[None, nn.Parameter]]:
        return ((None, part.parameter) for part in self.units.slices)

    @property
    def shrinking(self) -> Tensor:
        return self.chosen & ~self.zero

    def rates(self, units: Units) -> list[float]:
        """The learning rate of each parameter that some units lie in."""
        rate_of = {id(p): float(g["lr"]) for g in self.base.param_groups for p in g["params"]}
        return [rate_of[id(part.parameter)] for part in units.slices]

    def target(self, scores: Tensor) -> Tensor:
        """The units that have to go so that the target is met; those chosen before among them."""
        return self.selection.choose(self.agreed(scores), self.chosen)

    def choose(self, target: Tensor, scores: Tensor) -> None:
        """At the beginning of a period: let its share of the target shrink, the lowest first."""
        period, _ = self.schedule.period(self.step)
        wanted = self.schedule.wanted(period, int(target.sum()))
        rest = target & ~self.chosen
        missing = max(0, wanted - int(self.chosen.sum()))
        self.chosen = self.chosen | lowest(scores, rest, missing)

    def shrink(self) -> None:
        """Let the chosen units go to zero linearly until the end of the period.

        HESSO (Chen et al., 2024): in step t of a period of L steps they are multiplied by
        (L - t - 1) / (L - t), so that they lose the same amount in every step.
        """
        shrinking = self.shrinking
        if not bool(shrinking.any()):
            return
        _, place = self.schedule.period(self.step)
        left = self.schedule.length - place
        if left > 1:
            factors = torch.where(shrinking, (left - 1) / left, 1.0)
            self.units.among(shrinking).scale(factors)
        else:
            self.erase(shrinking)

    def erase(self, mask: Tensor) -> None:
        self.chosen = self.chosen | mask
        self.zero = self.zero | mask
        self._zeros = Zeros(self.units, self.zero)
        self._zeros.write()

    def advance(self) -> None:
        if self.schedule.prunes(self.step):
            self.shrink()
        self._zeros.write()
        super().advance()
        if self.monitor.wants(self.schedule, self.step):
            self.monitor.add(self.record())

    def record(self, metrics: Mapping[str, float] = MappingProxyType({})) -> Record:
        """The present state of the run, with measurements of the user's."""
        count = max(1, self.units.count)
        flops, params = self.selection.cost_shares(self.zero)
        return Record(
            step=self.step,
            steps=self.schedule.steps,
            zero=int(self.zero.sum()) / count,
            chosen=int(self.chosen.sum()) / count,
            flops=flops,
            params=params,
            metrics={name: float(value) for name, value in metrics.items()},
        )

    def revived(self) -> Iterator[tuple[str, None]]:
        left = int((self.zero & (self.units.norms() > 0)).sum())
        if left:
            yield f"{left} removed units have weights that are not zero any more", None

    def kept(self) -> dict[str, Any]:
        parameters = (part.parameter for part in self.units.slices)
        weights = [
            whole_of(tensor, parameter)
            for tensor, parameter in zip(self.weights, parameters, strict=False)
        ]
        return {
            "groups": [group.name for group in self.units.groups],
            "chosen": self.chosen,
            "zero": self.zero,
            "weights": weights,
            **{f"memory.{name}": tensor for name, tensor in self.memory.items()},
        }

    def fits(self, state: dict[str, Any]) -> bool:
        names = [group.name for group in self.units.groups]
        return state.get("groups") == names and len(state["chosen"]) == self.units.count

    def restore(self, state: dict[str, Any]) -> None:
        device = self.device
        self.chosen = state["chosen"].to(device)
        self.zero = state["zero"].to(device)
        self.memory = {
            name.removeprefix("memory."): tensor.to(device)
            for name, tensor in state.items()
            if name.startswith("memory.")
        }
        self.weights = [
            tensor.to(part.local.device)[held(part.parameter)].clone()
            for tensor, part in zip(state["weights"], self.units.slices, strict=False)
        ]
        self._zeros = Zeros(self.units, self.zero)

    def settings(self) -> dict[str, str]:
        """What a run has to go on with; the ramp of its schedule may differ."""
        schedule = self.schedule
        return {
            **super().settings(),
            "schedule": f"{schedule.start}-{schedule.stop} of {schedule.steps} steps "
            f"in {schedule.periods} periods",
        }


class Method(TrainingMethod[UnitTraining]):
    """A way to find the units that are not needed and to bring them to zero.

    Chosen units shrink after each step.
    """
