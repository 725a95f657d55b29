"""Training in which weights become zero by masks: what is kept by now, and what is behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoprune.passes.learners.masks.choices import choose, dense_and_final
from autoprune.passes.learners.training import Training, TrainingMethod
from autoprune.passes.sparsify.distribution import Distribution, Layer, find_levels
from autoprune.passes.sparsify.weights import Weight


@dataclass(eq=False, kw_only=True)
class MaskTraining(Training):
    """A run that makes weights zero where masks say.

    Attributes:
        weights: the parameters that become sparse.
        sparsity: share to remove of those whose format leaves it open.
        distribution: of that over the parameters.
        masks: where weights are kept, in the shape of the parameters.
        levels: of its format that each parameter keeps by now; see `choices`.
        hidden: what the base optimizer trains, where the network computes with something made of
            it; otherwise empty.
        revealed: whether the parameters themselves hold what is trained at present.
        memory: tensors that a method keeps from step to step, one for each parameter.
        cache: what a method would otherwise compute twice, by name and step.
    """

    maker = "Sparsifier"
    unfinished = "masks change"

    method: MaskMethod

    weights: tuple[Weight, ...]
    sparsity: float
    distribution: str | Distribution
    hidden: list[Tensor] = field(default_factory=list, init=False)
    revealed: bool = field(default=True, init=False)
    memory: dict[str, list[Tensor]] = field(default_factory=dict, init=False)
    cache: dict[tuple[str, int], list[Tensor]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.masks = [torch.ones_like(w.parameter, dtype=torch.bool) for w in self.weights]
        self.levels = [dense_and_final(w.format, w.shape)[0] for w in self.weights]

    @property
    def device(self) -> torch.device:
        return self.weights[0].parameter.device

    @property
    def goal(self) -> str:
        formats = dict.fromkeys(str(weight.format) for weight in self.weights)
        return f"sparsity={self.sparsity:g} of {', '.join(formats)}"

    @property
    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((weight.name, weight.parameter) for weight in self.weights)

    @property
    def period_ends(self) -> bool:
        return self.schedule.ends_period(self.step)

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
            dense, final = dense_and_final(weight.format, weight.shape)
            if final is None:
                values = scores[i].double().numpy(force=True)
                layers[str(i)] = Layer(np.ascontiguousarray(values), weight.format, weight.dims)
            else:
                self.levels[i] = dense - floor(reached * (dense - final) + 1e-9)
        found = find_levels(layers, self.sparsity * reached, self.distribution)
        for number, levels in found.items():
            self.levels[int(number)] = levels
        self.levels = self.agreed(torch.tensor(self.levels, device=self.device)).tolist()

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
            weight.tensor(self.agreed(mask.to(torch.uint8)).bool()).contiguous()
            for weight, mask in zip(self.weights, masks, strict=True)
        ]

    @torch.no_grad()
    def reveal(self) -> None:
        if not self.revealed:
            for weight, hidden in zip(self.weights, self.hidden, strict=True):
                weight.parameter.copy_(hidden)
            self.revealed = True

    @torch.no_grad()
    def hide(self) -> None:
        if not self.revealed:
            return
        gates = self.method.gates(self)
        self.revealed = not self.method.hides(self)
        if self.revealed:
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

    def advance(self) -> None:
        super().advance()
        self.hide()

    def revived(self) -> Iterator[tuple[str, str]]:
        for weight, mask in zip(self.weights, self.masks, strict=True):
            left = int(weight.parameter.detach()[~mask].count_nonzero())
            if left:
                yield f"{left} removed weights are not zero any more", weight.name

    def kept(self) -> dict[str, Any]:
        return {
            "weights": [weight.name for weight in self.weights],
            "masks": self.masks,
            "levels": self.levels,
            "hidden": self.hidden,
            "memory": self.memory,
        }

    def fits(self, state: dict[str, Any]) -> bool:
        names = [weight.name for weight in self.weights]
        shapes = [weight.parameter.shape for weight in self.weights]
        return state.get("weights") == names and [m.shape for m in state["masks"]] == shapes

    def restore(self, state: dict[str, Any]) -> None:
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


class MaskMethod(TrainingMethod[MaskTraining]):
    """A way to find, while a network trains, the weights that are not needed. It keeps all."""

    def check(self, weights: Sequence[Weight]) -> None:
        """Refuse formats that the method is not for.

        Raises:
            LearnerError: naming the first of them.
        """

    def gradients(self, training: MaskTraining) -> None:
        """The gradients are there, and may be changed. By default, removed weights get none."""
        for weight, mask in zip(training.weights, training.masks, strict=True):
            if weight.parameter.grad is not None:
                weight.parameter.grad.masked_fill_(~mask, 0.0)

    def hides(self, training: MaskTraining) -> bool:
        """Whether the network computes with something else than what is trained."""
        return False

    def gates(self, training: MaskTraining) -> list[Tensor]:
        """What the trained weights are multiplied by, in the shape of the parameters."""
        return training.masks


def magnitudes(training: MaskTraining) -> list[Tensor]:
    """Squares of the trained weights: a block is worth its squared L2 norm."""
    return [training.values(i).square() for i in range(len(training.weights))]
