"""What a method does around each step of the base optimizer to find masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from autoprune.passes.learners.masks.training import Training
from autoprune.passes.learners.schedule import Timing
from autoprune.passes.sparsify.weights import Weight


class MaskMethod:
    """A way to find, while a network trains, the weights that are not needed.

    Methods are frozen dataclasses of their settings; what changes is in the `Training`. All
    functions are called without gradient tracking. This one keeps all weights.

    Attributes:
        timing: when masks are looked for, unless the user says otherwise.
    """

    timing: ClassVar[Timing] = Timing()

    def check(self, weights: Sequence[Weight]) -> None:
        """Refuse formats that the method is not for.

        Raises:
            LearnerError: naming the first of them.
        """

    def gradients(self, training: Training) -> None:
        """The gradients are there, and may be changed. By default, removed weights get none."""
        for weight, mask in zip(training.weights, training.masks, strict=True):
            if weight.parameter.grad is not None:
                weight.parameter.grad.masked_fill_(~mask, 0.0)

    def after(self, training: Training) -> None:
        """The base optimizer has done its step; masks may change."""

    def hides(self, training: Training) -> bool:
        """Whether the network computes with something else than what is trained."""
        return False

    def gates(self, training: Training) -> list[Tensor]:
        """What the trained weights are multiplied by, in the shape of the parameters."""
        return training.masks


def magnitudes(training: Training) -> list[Tensor]:
    """Squares of the trained weights: a block is worth its squared L2 norm."""
    return [training.values(i).square() for i in range(len(training.weights))]
