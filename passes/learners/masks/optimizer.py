"""Any torch optimizer, with masks that change around each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoprune.errors import LearnerError
from autoprune.passes.learners.masks.method import MaskMethod
from autoprune.passes.learners.masks.training import Training
from autoprune.passes.learners.sharding import anywhere
from autoprune.passes.learners.wrapper import Wrapper, check_finite, described, same_settings


class MaskedOptimizer(Wrapper):
    """Wraps an optimizer, and keeps weights of the network at zero.

    Where a method trains more weights than the network computes with, they are in the parameters
    only during the base optimizer's step, and otherwise in the state.

    Attributes:
        base: the wrapped optimizer.
        training: where the run stands.
        method: how masks are found.
    """

    def __init__(self, base: torch.optim.Optimizer, training: Training, method: MaskMethod) -> None:
        super().__init__(base)
        self.training = training
        self.method = method

    def _gradients_ready(self, loss: Any) -> None:
        training = self.training
        check_finite(loss, self._gradients(), training.device, training.step, anywhere)
        self.method.gradients(training)

    @torch.no_grad()
    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        self._hide()
        loss = super()._evaluate(closure)
        self.training.reveal()
        return loss

    def _step(self, evaluate: Callable[[], Any] | None) -> Any:
        training = self.training
        training.reveal()
        try:
            loss = self.base.step(evaluate)
        except Exception:
            self._hide()
            raise
        self.method.after(training)
        training.step += 1
        self._hide()
        return loss

    def _hide(self) -> None:
        """Let the network compute with what it computes with in this step."""
        gates = self.method.gates(self.training)
        self.training.hide(gates, keep=self.method.hides(self.training))

    def learner_state(self) -> dict[str, Any]:
        """The sparsifier's part of the state: plain numbers, names and tensors."""
        return {**self._settings(), **self.training.state()}

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Go on where `learner_state` was called.

        Raises:
            LearnerError: if it belongs to another method, target, schedule or network.
        """
        names = [weight.name for weight in self.training.weights]
        shapes = [weight.parameter.shape for weight in self.training.weights]
        if state.get("weights") != names or [mask.shape for mask in state["masks"]] != shapes:
            raise LearnerError(
                "the state is that of a sparsifier of another network",
                hint="make the Sparsifier of the same model with the same options",
            )
        same_settings(state, self._settings())
        self.training.restore(state)

    def _settings(self) -> dict[str, str]:
        training = self.training
        formats = dict.fromkeys(str(weight.format) for weight in training.weights)
        return {
            "method": described(self.method),
            "target": f"sparsity={training.sparsity:g} of {', '.join(formats)}",
            "schedule": described(training.schedule),
        }
