"""Where a learner stands in its training run: what is chosen, what is zero, what comes next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from autoprune.passes.learners.schedule import Schedule
from autoprune.passes.learners.sharding import agreed, anywhere, held, whole_of
from autoprune.passes.learners.units.selection import Selection, lowest
from autoprune.passes.learners.units.slices import Units, Zeros


class Course:
    """The state of a training run that a learner steers.

    Attributes:
        units: the units of the groups that may shrink.
        selection: the target.
        schedule: when what happens.
        base: the optimizer that trains.
        model: the network.
        process_group: the processes that train the network together; None for all.
        step: steps done.
        chosen: units that will be removed: those shrinking, and those that are zero.
        zero: units that are zero and stay so.
        memory: tensors that a method keeps from step to step, the same in all processes.
        weights: weights that a method keeps from step to step, of each parameter that units lie in.
        scratch: tensors that a method keeps within one step.
    """

    def __init__(
        self,
        units: Units,
        selection: Selection,
        schedule: Schedule,
        base: torch.optim.Optimizer,
        model: nn.Module,
        process_group: ProcessGroup | None = None,
    ) -> None:
        self.units = units
        self.selection = selection
        self.schedule = schedule
        self.base = base
        self.model = model
        self.process_group = process_group
        self.step = 0
        self.chosen = units.none()
        self.zero = units.none()
        self.memory: dict[str, Tensor] = {}
        self.weights: list[Tensor] = []
        self.scratch: list[Tensor] = []
        self._zeros = Zeros(units, self.zero)

    @property
    def shrinking(self) -> Tensor:
        """Units on their way to zero."""
        return self.chosen & ~self.zero

    def rates(self, units: Units) -> list[float]:
        """The learning rate of each parameter that some units lie in."""
        rate_of = {id(p): float(g["lr"]) for g in self.base.param_groups for p in g["params"]}
        return [rate_of[id(part.parameter)] for part in units.slices]

    def target(self, scores: Tensor) -> Tensor:
        """The units that have to go so that the target is met; those chosen before among them."""
        return self.selection.choose(self.agreed(scores), self.chosen)

    def agreed(self, values: Tensor) -> Tensor:
        """Values of the first process, so that all processes decide alike."""
        return agreed(values, self.process_group)

    def anywhere(self, flags: Tensor) -> Tensor:
        """Which flags are set in some process, so that all processes fail alike."""
        return anywhere(flags, self.process_group)

    def choose(self, target: Tensor, scores: Tensor) -> None:
        """At the beginning of a period: let its share of the target begin to shrink.

        Args:
            target: all units that have to go.
            scores: the lowest go first.
        """
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
        """Set units to zero for good."""
        self.chosen = self.chosen | mask
        self.zero = self.zero | mask
        self._zeros = Zeros(self.units, self.zero)
        self._zeros.write()

    def hold(self) -> None:
        """Set to zero again what the base optimizer moved."""
        self._zeros.write()

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on later, the same in all processes.

        If the model is sharded, all of them have to ask for it together.
        """
        names = [group.name for group in self.units.groups]
        tensors = {"chosen": self.chosen, "zero": self.zero}
        memory = {f"memory.{name}": tensor for name, tensor in self.memory.items()}
        parameters = (part.parameter for part in self.units.slices)
        weights = [
            whole_of(tensor, parameter)
            for tensor, parameter in zip(self.weights, parameters, strict=False)
        ]
        return {"step": self.step, "groups": names, "weights": weights, **tensors, **memory}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        device = self.units.device
        self.step = int(state["step"])
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
