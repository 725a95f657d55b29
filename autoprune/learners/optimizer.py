"""Any torch optimizer, with a learner acting on the groups around each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoprune.errors import LearnerError
from autoprune.learners.course import Course
from autoprune.learners.history import Monitor
from autoprune.learners.method import Method
from autoprune.learners.wrapper import Wrapper, check_finite, described, same_settings


class SparseOptimizer(Wrapper):
    """Wraps an optimizer, and lets a learner act on the units after each of its steps.

    Attributes:
        base: the wrapped optimizer.
        course: where the learner stands.
        method: what the learner does.
    """

    def __init__(
        self, base: torch.optim.Optimizer, course: Course, method: Method, monitor: Monitor
    ) -> None:
        super().__init__(base)
        self.course = course
        self.method = method
        self.monitor = monitor

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method!r}, {self.base!r})"

    @torch.optim.Optimizer.profile_hook_step
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the base optimizer and of the learner.

        Args:
            closure: computes the loss and its gradients, for optimizers that ask for it.

        Returns:
            What the base optimizer returns, usually the loss or None.

        Raises:
            LearnerError: if a gradient or the loss is not finite, in any of the processes that
                train together. Weights, optimizer and learner are then as they were before the
                step (or before the call of the closure, if the optimizer makes several).
        """
        course, method = self.course, self.method

        def evaluate() -> Any:
            assert closure is not None
            with torch.enable_grad():
                loss = closure()
            self._gradients_ready(loss)
            return loss

        if closure is None:
            self._gradients_ready()
        with torch.no_grad():
            method.before(course)
            if method.pauses(course):
                # A scheduler of the base asks whether it has been called at all.
                self.base._opt_called = True  # type: ignore[attr-defined]
                loss = None if closure is None else evaluate()
            else:
                loss = self.base.step(None if closure is None else evaluate)
            method.after(course)
            if course.schedule.prunes(course.step):
                course.shrink()
            course.hold()
        course.step += 1
        self.monitor.observe(course)
        return loss

    def _gradients_ready(self, loss: Any = None) -> None:
        course = self.course
        check_finite(loss, self._gradients(), course.units.device, course.step, course.anywhere)
        with torch.no_grad():
            self.method.gradients(course)

    def learner_state(self) -> dict[str, Any]:
        """The learner's part of the state: plain numbers, names and tensors.

        For checkpoints that treat the optimizer's own state separately, such as sharded ones; there
        give `optimizer.base` to torch.distributed.checkpoint. It is the same in all processes that
        train together, and those of a sharded model have to ask for it together.
        """
        return {**self._settings(), **self.course.state()}

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Go on where `learner_state` was called.

        Raises:
            LearnerError: if it belongs to another method, target, schedule or network.
        """
        names = [group.name for group in self.course.units.groups]
        if state.get("groups") != names or len(state["chosen"]) != self.course.units.count:
            raise LearnerError(
                "the state is that of a learner on another network",
                hint="make the Pruner of the same model with the same options",
            )
        same_settings(state, self._settings())
        self.course.restore(state)

    def _settings(self) -> dict[str, str]:
        """What a run begun with has to go on with; otherwise its target could be missed."""
        schedule = self.course.schedule
        cost, share = self.course.selection.request.budget
        return {
            "method": described(self.method),
            "target": f"{cost}={share:g}",
            "schedule": f"{schedule.start}-{schedule.stop} of {schedule.steps} steps "
            f"in {schedule.periods} periods",
        }
