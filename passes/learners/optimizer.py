"""Any torch optimizer, with a method acting on the network around each of its steps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Generic

import torch
from torch import Tensor, nn

from autoprune.errors import LearnerError
from autoprune.passes.learners.sharding import local_part
from autoprune.passes.learners.training import AnyTraining, TrainingMethod, described

KEY = "autoprune"
"""Where the learner's state is in the state of the optimizer."""


class SparseOptimizer(torch.optim.Optimizer, Generic[AnyTraining]):
    """Wraps an optimizer, and is used in its place.

    The base optimizer computes its update, so its options, learning-rate schedulers, gradient
    scalers and accumulation of gradients work as before; parameters and state are the base's own.
    `state_dict` is the base's with one more entry. Where a method trains other weights than the
    network computes with, they are in the parameters only during the base optimizer's step.

    Attributes:
        base: the wrapped optimizer.
        training: where the run stands.
    """

    def __init__(self, training: AnyTraining) -> None:
        # The base has run the constructor of optimizers; everything it set up is used from there.
        self.training = training
        self.base = base = training.base
        # Hooks of this step see all of it; those of the base's step still belong to the base.
        self._optimizer_step_pre_hooks = OrderedDict()
        self._optimizer_step_post_hooks = OrderedDict()
        self._optimizer_state_dict_pre_hooks = base._optimizer_state_dict_pre_hooks
        self._optimizer_state_dict_post_hooks = base._optimizer_state_dict_post_hooks
        self._optimizer_load_state_dict_pre_hooks = base._optimizer_load_state_dict_pre_hooks
        self._optimizer_load_state_dict_post_hooks = base._optimizer_load_state_dict_post_hooks

    def __repr__(self) -> str:
        return f"{type(self).__name__}({described(self.method)}, {self.base!r})"

    def __getstate__(self) -> dict[str, Any]:
        raise LearnerError(
            "an optimizer with a learner cannot be copied or pickled",
            hint="save optimizer.state_dict(), and load it into one made in the same way",
        )

    @property
    def method(self) -> TrainingMethod[Any]:
        return self.training.method

    # The base replaces these when a state is loaded, so they are looked up there every time.

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.base.defaults

    @torch.optim.Optimizer.profile_hook_step
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the base optimizer and of what happens around it.

        Args:
            closure: computes the loss and its gradients, for optimizers that ask for it.

        Returns:
            What the base optimizer returns, usually the loss or None.

        Raises:
            LearnerError: if a gradient or the loss is not finite, in any of the processes that
                train together. Everything is then as it was before the step (or before the call
                of the closure, if the optimizer makes several).
        """
        with torch.no_grad():
            if closure is None:
                self._gradients_ready(None)
                return self._step(None)
            return self._step(partial(self._evaluate, closure))

    @torch.no_grad()  # the base's step enables gradients before it calls this
    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        """The loss that a closure computes, with gradients that are ready for the step."""
        self.training.hide()
        with torch.enable_grad():
            loss = closure()
        self._gradients_ready(loss)
        self.training.reveal()
        return loss

    def _gradients_ready(self, loss: Any) -> None:
        """Check the gradients, and the loss if there is one, and let the method change them."""
        self._check_finite(loss)
        self.method.gradients(self.training)

    def _step(self, evaluate: Callable[[], Any] | None) -> Any:
        """Take a step with gradients that are ready, or with those that a function computes."""
        training, method = self.training, self.method
        training.reveal()
        try:
            method.before(training)
            if method.pauses(training):
                # A scheduler of the base asks whether it has been called at all.
                self.base._opt_called = True  # type: ignore[attr-defined]
                loss = None if evaluate is None else evaluate()
            else:
                loss = self.base.step(evaluate)
        except Exception:
            training.hide()
            raise
        method.after(training)
        training.advance()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none=set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.base.add_param_group(param_group)

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
        return self.training.state()

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Go on where `learner_state` was called.

        Raises:
            LearnerError: if it belongs to another method, target, schedule or network.
        """
        self.training.load(state)

    def _check_finite(self, loss: Any) -> None:
        """Refuse a loss or gradients, in any process, that would destroy weights and scores."""
        training = self.training
        parameters = (p for group in self.param_groups for p in group["params"])
        gradients = list(_dense(p.grad for p in parameters if p.grad is not None))
        device = training.device
        value = loss.detach().to(device) if isinstance(loss, Tensor) else torch.zeros(())
        finite = [value.isfinite().all().to(device), _all_finite(gradients).to(device)]
        of_loss, of_gradients = training.anywhere(~torch.stack(finite)).tolist()
        if of_loss or of_gradients:
            what = "the loss is" if of_loss else "gradients are"
            raise LearnerError(
                f"{what} not finite in step {training.step} (counted from 0)",
                hint="nothing was changed in this step: lower the learning rate, clip gradients, "
                "or use a GradScaler with float16; then go on, or from a checkpoint",
            )


def check_base(base: torch.optim.Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer that lacks parameters: it would train a part, and a learner change all.

    Raises:
        LearnerError: also if it is no optimizer, or has a learner.
    """
    if not isinstance(base, torch.optim.Optimizer):
        raise LearnerError(
            f"a torch.optim.Optimizer is needed, got {type(base).__name__}",
            hint="pass the optimizer that you would train with",
        )
    if isinstance(base, SparseOptimizer):
        raise LearnerError(
            "the optimizer has a learner already",
            hint="pass optimizer.base, once the other learner is finished",
        )
    held = {id(p) for group in base.param_groups for p in group["params"]}
    lacking = [
        name for name, p in model.named_parameters() if p.requires_grad and id(p) not in held
    ]
    if lacking:
        raise LearnerError(
            f"the optimizer lacks {len(lacking)} of the model's parameters, such as {lacking[0]}",
            hint="make it of model.parameters(), after the model was moved or sharded; freeze "
            "with requires_grad_(False) what is not to be trained",
        )


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


def _dense(gradients: Iterable[Tensor]) -> Iterator[Tensor]:
    """The values of gradients that this process holds; of sparse ones without their indices."""
    for gradient in gradients:
        local = local_part(gradient)
        values = local._values() if local.is_sparse else local
        if values.numel():
            yield values
