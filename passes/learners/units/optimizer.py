"""Any torch optimizer, with a learner acting on the groups around each of its steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from autoprune.errors import LearnerError
from autoprune.passes.learners.units.history import Monitor
from autoprune.passes.learners.units.method import Method
from autoprune.passes.learners.units.state import Course
from autoprune.passes.learners.wrapper import Wrapper, check_finite, described, same_settings


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

    def _gradients_ready(self, loss: Any) -> None:
        course = self.course
        check_finite(loss, self._gradients(), course.units.device, course.step, course.anywhere)
        self.method.gradients(course)

    def _step(self, evaluate: Callable[[], Any] | None) -> Any:
        course, method = self.course, self.method
        method.before(course)
        if method.pauses(course):
            # A scheduler of the base asks whether it has been called at all.
            self.base._opt_called = True  # type: ignore[attr-defined]
            loss = None if evaluate is None else evaluate()
        else:
            loss = self.base.step(evaluate)
        method.after(course)
        if course.schedule.prunes(course.step):
            course.shrink()
        course.hold()
        course.step += 1
        self.monitor.observe(course)
        return loss

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
        schedule = self.course.schedule
        cost, part = self.course.selection.request.budget
        share = f"{part:g}" if isinstance(part, int | float) else str(part)
        return {
            "method": described(self.method),
            "target": f"{cost}={share}",
            "schedule": f"{schedule.start}-{schedule.stop} of {schedule.steps} steps "
            f"in {schedule.periods} periods",
        }
