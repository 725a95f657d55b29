"""Where a sparsifier stands in its training run: masks, hidden weights, what is kept by now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.passes.learners.masks.choices import choose, dense_levels, final_levels
from autoprune.passes.learners.schedule import Schedule
from autoprune.passes.learners.sharding import agreed
from autoprune.passes.sparsify.distribution import Distribution, Layer, find_levels
from autoprune.passes.sparsify.weights import Weight


class Training:
    """The state of a training run that a sparsifier steers.

    Attributes:
        weights: the parameters that become sparse.
        sparsity: share to remove of those whose format leaves it open.
        distribution: of that over the parameters.
        schedule: when what happens.
        step: steps done.
        masks: where weights are kept, in the shape of the parameters.
        levels: of its format that each parameter keeps by now; see `choices`.
        hidden: what the base optimizer trains, where the network computes with something made of
            it; otherwise empty.
        revealed: whether the parameters themselves hold what is trained at present.
        memory: tensors that a method keeps from step to step, one for each parameter.
        scratch: tensors that a method keeps within one step.
        cache: what a method would otherwise compute twice, by name and step.
    """

    def __init__(
        self,
        weights: tuple[Weight, ...],
        sparsity: float,
        distribution: str | Distribution,
        schedule: Schedule,
    ) -> None:
        self.weights = weights
        self.sparsity = sparsity
        self.distribution = distribution
        self.schedule = schedule
        self.step = 0
        self.masks = [torch.ones_like(w.parameter, dtype=torch.bool) for w in weights]
        self.levels = [dense_levels(w.format, w.shape) for w in weights]
        self.hidden: list[Tensor] = []
        self.revealed = True
        self.memory: dict[str, list[Tensor]] = {}
        self.scratch: list[Tensor] = []
        self.cache: dict[tuple[str, int], list[Tensor]] = {}

    @property
    def device(self) -> torch.device:
        """Where flags are put together."""
        return self.weights[0].parameter.device

    @property
    def period_ends(self) -> bool:
        """Whether a period of the pruning part ends with this step."""
        schedule = self.schedule
        return schedule.prunes(self.step) and schedule.period(self.step + 1)[1] == 0

    @property
    def done(self) -> bool:
        """Whether masks do not change any more."""
        return self.step >= self.schedule.stop

    def values(self, i: int) -> Tensor:
        """What the optimizer trains of a parameter, as a matrix in float32 or more."""
        weight = self.weights[i]
        trained = weight.parameter.detach() if self.revealed else self.hidden[i]
        matrix = weight.matrix(trained)
        return matrix.float() if matrix.dtype in (torch.bfloat16, torch.float16) else matrix

    def gradient(self, i: int) -> Tensor:
        """The gradient of a parameter as a matrix; zeros if there is none."""
        weight = self.weights[i]
        gradient = weight.parameter.grad
        if gradient is None:
            return torch.zeros_like(self.values(i))
        return weight.matrix(gradient).to(self.values(i).dtype)

    def set_levels(self, reached: float, scores: Sequence[Tensor]) -> None:
        """Decide how much of each parameter is kept.

        Args:
            reached: 0 for everything, 1 for what is kept in the end.
            scores: importance of the weights of each matrix.
        """
        layers: dict[str, Layer] = {}
        for i, weight in enumerate(self.weights):
            final = final_levels(weight.format, weight.shape)
            if final is None:
                values = scores[i].double().numpy(force=True)
                dims = tuple(weight.parameter.shape)
                layers[str(i)] = Layer(np.ascontiguousarray(values), weight.format, dims)
            else:
                dense = dense_levels(weight.format, weight.shape)
                self.levels[i] = dense - floor(reached * (dense - final) + 1e-9)
        found = find_levels(layers, self.sparsity * reached, self.distribution)
        for number, levels in found.items():
            self.levels[int(number)] = levels
        self.levels = agreed(torch.tensor(self.levels, device=self.device)).tolist()

    def choose(self, scores: Sequence[Tensor]) -> None:
        """Keep the weights with the highest scores, as many as decided."""
        self.set_masks(
            choose(weight.format, of_weight, levels)
            for weight, of_weight, levels in zip(self.weights, scores, self.levels, strict=True)
        )

    def set_masks(self, masks: Iterable[Tensor]) -> None:
        """Keep these weights, given as masks of matrices, in all processes."""
        self.masks = [
            # Not all ways to communicate know booleans.
            weight.tensor(agreed(mask.to(torch.uint8)).bool())
            for weight, mask in zip(self.weights, masks, strict=True)
        ]

    @torch.no_grad()
    def reveal(self) -> None:
        """Put what the optimizer trains into the parameters."""
        if not self.revealed:
            for weight, hidden in zip(self.weights, self.hidden, strict=True):
                weight.parameter.copy_(hidden)
            self.revealed = True

    @torch.no_grad()
    def hide(self, gates: Sequence[Tensor], *, keep: bool) -> None:
        """Put what the network computes with into the parameters, unless it is there.

        Args:
            gates: factors of the weights, or masks.
            keep: whether the optimizer goes on with the weights as they are now.
        """
        if not self.revealed:
            return
        self.revealed = not keep
        if not keep:
            self.hidden = []
        elif not self.hidden:
            self.hidden = [weight.parameter.detach().clone() for weight in self.weights]
        else:
            for weight, hidden in zip(self.weights, self.hidden, strict=True):
                hidden.copy_(weight.parameter)
        for weight, gate in zip(self.weights, gates, strict=True):
            if gate.dtype == torch.bool:
                weight.parameter.masked_fill_(~gate, 0.0)
            else:
                weight.parameter.mul_(gate)

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on later."""
        return {
            "step": self.step,
            "weights": [weight.name for weight in self.weights],
            "masks": self.masks,
            "levels": self.levels,
            "hidden": self.hidden,
            "memory": self.memory,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.step = int(state["step"])
        self.levels = [int(level) for level in state["levels"]]
        self.masks = self._own(state["masks"])
        self.hidden = self._own(state["hidden"])
        self.revealed = not self.hidden
        self.memory = {name: self._own(tensors) for name, tensors in state["memory"].items()}
        self.cache = {}

    def _own(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [
            tensor.to(weight.parameter.device, copy=True)
            for tensor, weight in zip(tensors, self.weights, strict=False)
        ]
