"""Any torch optimizer, with a learner acting on the groups around each of its steps."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from autoprune.errors import LearnerError
from autoprune.learners.course import Course
from autoprune.learners.history import Monitor
from autoprune.learners.method import Method
from autoprune.learners.sharding import local_part

KEY = "autoprune"
"""Where the learner's state is in the state of the optimizer."""


class SparseOptimizer(torch.optim.Optimizer):
    """Wraps an optimizer, and is used in its place.

    The base optimizer computes its update, so its options, learning-rate schedulers, gradient
    scalers and accumulation of gradients work as before; parameters and state are the base's own.
    `step` then lets the learner act on the units. `state_dict` is the base's with one more entry.

    Attributes:
        base: the wrapped optimizer.
        course: where the learner stands.
        method: what the learner does.
    """

    def __init__(
        self, base: torch.optim.Optimizer, course: Course, method: Method, monitor: Monitor
    ) -> None:
        # The base has run the constructor of optimizers; everything it set up is used from there.
        self.base = base
        self.course = course
        self.method = method
        self.monitor = monitor
        # Hooks of this step see all of it; those of the base's step still belong to the base.
        self._optimizer_step_pre_hooks = OrderedDict()
        self._optimizer_step_post_hooks = OrderedDict()
        self._optimizer_state_dict_pre_hooks = base._optimizer_state_dict_pre_hooks
        self._optimizer_state_dict_post_hooks = base._optimizer_state_dict_post_hooks
        self._optimizer_load_state_dict_pre_hooks = base._optimizer_load_state_dict_pre_hooks
        self._optimizer_load_state_dict_post_hooks = base._optimizer_load_state_dict_post_hooks

    def __getstate__(self) -> dict[str, Any]:
        raise LearnerError(
            "an optimizer with a learner cannot be copied or pickled",
            hint="save optimizer.state_dict(), and load it into one made in the same way",
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.method!r}, {self.base!r})"

    # The base replaces these when a state is loaded, so they are looked up there every time.

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Those of the base optimizer."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """That of the base optimizer."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """Those of the base optimizer."""
        return self.base.defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.base.zero_grad(set_to_none=set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Let the base optimizer train more parameters."""
        self.base.add_param_group(param_group)

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
        self._check_finite(loss)
        with torch.no_grad():
            self.method.gradients(self.course)

    def _check_finite(self, loss: Any) -> None:
        """Refuse gradients that would destroy weights and scores."""
        device = self.course.units.device
        parameters = (p for group in self.param_groups for p in group["params"])
        gradients = list(_dense(p.grad for p in parameters if p.grad is not None))
        value = loss.detach().to(device) if isinstance(loss, Tensor) else torch.zeros(())
        finite = [value.isfinite().all().to(device), _all_finite(gradients).to(device)]
        of_loss, of_gradients = self.course.anywhere(~torch.stack(finite)).tolist()
        if of_loss or of_gradients:
            what = "the loss is" if of_loss else "gradients are"
            raise _not_finite(what, self.course.step)

    def state_dict(self) -> dict[str, Any]:
        """The state of the base optimizer, and under `"autoprune"` that of the learner."""
        return {**self.base.state_dict(), KEY: self.learner_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a state was taken: the steps that follow are the same.

        Raises:
            LearnerError: if the state holds none of a learner, or that of another network.
        """
        if KEY not in state_dict:
            raise LearnerError(
                "the state is that of an optimizer without a learner",
                hint="load what `state_dict` of this optimizer returned; to begin anew from an "
                "optimizer's state, load it into `optimizer.base`",
            )
        self.load_learner_state(state_dict[KEY])
        self.base.load_state_dict({k: v for k, v in state_dict.items() if k != KEY})

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
        for name, own in self._settings().items():
            if state.get(name) != own:
                raise LearnerError(
                    f"the state is that of a learner with {name} {state.get(name)}, "
                    f"this one has {own}",
                    hint="continue with the settings that the run began with",
                )
        self.course.restore(state)

    def _settings(self) -> dict[str, str]:
        """What a run begun with has to go on with; otherwise its target could be missed."""
        schedule = self.course.schedule
        cost, share = self.course.selection.request.budget
        return {
            # Functions among the settings are at another address in every process.
            "method": re.sub(" at 0x[0-9a-f]+", "", repr(self.method)),
            "target": f"{cost}={share:g}",
            "schedule": f"{schedule.start}-{schedule.stop} of {schedule.steps} steps "
            f"in {schedule.periods} periods",
        }


def _all_finite(tensors: list[Tensor]) -> Tensor:
    """Whether all numbers are finite."""
    if not tensors:
        return torch.ones((), dtype=torch.bool)
    # The norm is many times faster than `isfinite`, but may overflow where no number does.
    norms = [norm.to(tensors[0].device) for norm in torch._foreach_norm(tensors)]
    finite = torch.stack(norms).isfinite().all()
    if not finite:
        each = [tensor.isfinite().all().to(finite.device) for tensor in tensors]
        finite = torch.stack(each).all()
    return finite


def _dense(gradients: Iterable[Tensor]) -> Iterable[Tensor]:
    """The values of gradients that this process holds; of sparse ones without their indices."""
    for gradient in gradients:
        local = local_part(gradient)
        values = local._values() if local.is_sparse else local
        if values.numel():
            yield values


def _not_finite(what: str, step: int) -> LearnerError:
    return LearnerError(
        f"{what} not finite in step {step} (counted from 0)",
        hint="nothing was changed in this step: lower the learning rate, clip gradients, or use a "
        "GradScaler with float16; then go on, or from a checkpoint",
    )
