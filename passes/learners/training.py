"""A training run that a method steers: what units and masks share.

A kind of training is a `Training`, which knows what is changed and what is kept to go on later, and
a `TrainingMethod`, of which each method is a subclass in a file of its own. `SparseOptimizer` calls
both around every step, and a `Session` is how users begin and finish.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from autoprune.errors import LearnerError
from autoprune.passes.learners.schedule import Schedule, Timing
from autoprune.passes.learners.sharding import agreed, anywhere, is_sharded
from autoprune.passes.registry import Registry


@dataclass(eq=False)
class Training(ABC):
    """Where a run stands, and what the network is meanwhile.

    Attributes:
        method: what is done around each step, with its settings.
        base: the optimizer that trains.
        model: the network.
        schedule: when what happens.
        process_group: the processes that train the network together; None for all.
        step: steps done.
        scratch: tensors that a method keeps within one step.
    """

    maker: ClassVar[str]
    """What makes such a training, in the words of a user."""

    unfinished: ClassVar[str]
    """What goes on until the schedule stops."""

    method: TrainingMethod[Any]
    base: torch.optim.Optimizer
    model: nn.Module
    schedule: Schedule
    process_group: ProcessGroup | None = None
    step: int = field(default=0, init=False)
    scratch: list[Tensor] = field(default_factory=list, init=False)

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where decisions are made."""

    @property
    @abstractmethod
    def goal(self) -> str:
        """What is to be reached, in a word."""

    @property
    @abstractmethod
    def parameters(self) -> Iterator[tuple[str | None, nn.Parameter]]:
        """The parameters that are changed, with their names where these are known."""

    def agreed(self, values: Tensor) -> Tensor:
        """Values of the first process, so that all processes decide alike."""
        return agreed(values, self.process_group)

    def anywhere(self, flags: Tensor) -> Tensor:
        """Which flags are set in some process, so that all processes fail alike."""
        return anywhere(flags, self.process_group)

    def reveal(self) -> None:  # noqa: B027
        """Put what the base optimizer trains into the parameters, if it is not what is there."""

    def hide(self) -> None:  # noqa: B027
        """Put what the network computes with into the parameters, if it is not what is there."""

    def advance(self) -> None:
        """The method has acted on a step: do what any method wants, and go on to the next."""
        self.step += 1

    @abstractmethod
    def revived(self) -> Iterator[tuple[str, str | None]]:
        """What was removed and is not zero any more, and where."""

    def check_finished(self) -> None:
        """Refuse a run that is not done, or whose network was changed by something else.

        Raises:
            LearnerError: saying what is in the way.
        """
        if self.step < self.schedule.stop:
            raise LearnerError(
                f"training has done {self.step} of {self.schedule.steps} steps, and "
                f"{self.unfinished} until step {self.schedule.stop}",
                hint="train on; `steps` counts calls of optimizer.step()",
            )
        present = {id(p) for p in self.model.parameters()}
        for name, parameter in self.parameters:
            # Sharded parameters are others during a forward pass, and nobody replaces them by hand.
            if id(parameter) not in present and not is_sharded(parameter):
                raise LearnerError(
                    "parameters of the model were replaced while it trained",
                    where=name,
                    hint="change values in place: load_state_dict without assign, no new layers",
                )
        for what, where in self.revived():
            raise LearnerError(
                what,
                where=where,
                hint="something changed the weights after the last step, an average of earlier "
                "weights perhaps; call finish() right after training",
            )

    def settings(self) -> dict[str, str]:
        """What a run has to go on with, or it could miss its target."""
        return {
            "method": described(self.method),
            "target": self.goal,
            "schedule": described(self.schedule),
        }

    def state(self) -> dict[str, Any]:
        """What has to be kept to go on later, the same in all processes: numbers, names, tensors.

        If the model is sharded, all processes have to ask for it together.
        """
        return {**self.settings(), "step": self.step, **self.kept()}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            LearnerError: if it belongs to another method, target, schedule or network; nothing has
                changed then.
        """
        if not self.fits(state):
            raise LearnerError(
                "the state is that of a learner on another network",
                hint=f"make the {self.maker} of the same model with the same options",
            )
        for name, setting in self.settings().items():
            if state.get(name) != setting:
                raise LearnerError(
                    f"the state is that of a learner with {name} {state.get(name)}, "
                    f"this one has {setting}",
                    hint="continue with the settings that the run began with",
                )
        self.step = int(state["step"])
        self.restore(state)

    @abstractmethod
    def kept(self) -> dict[str, Any]:
        """The part of the state that is of this kind of training."""

    @abstractmethod
    def fits(self, state: dict[str, Any]) -> bool:
        """Whether a state is of such a network."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `kept` was."""


AnyTraining = TypeVar("AnyTraining", bound=Training)


class TrainingMethod(Generic[AnyTraining]):
    """What a method does around each step of the base optimizer.

    Methods are frozen dataclasses of their settings; what changes is in the `Training`. All
    functions are called without gradient tracking, in this order. This one does nothing.

    A name, `class HESSO(Method, name="hesso")`, makes it known to those who begin a training:
    `pruner.hesso(optimizer, flops=0.5, steps=steps)`.

    Attributes:
        named: the methods of this kind of training, by name.
        timing: when it acts, unless the user says otherwise.
    """

    named: ClassVar[Registry[type[TrainingMethod[Any]]]]
    timing: ClassVar[Timing] = Timing()

    def __init_subclass__(cls, name: str = "", **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if TrainingMethod in cls.__bases__:
            cls.named = Registry("method of training", LearnerError)  # those of one kind
        if name:
            cls.named.add(name, cls)

    def before(self, training: AnyTraining) -> None:
        """Before the step; gradients may be missing if the base optimizer computes them itself."""

    def gradients(self, training: AnyTraining) -> None:
        """The gradients are there and may be changed; weights are as before the step."""

    def pauses(self, training: AnyTraining) -> bool:
        """Whether the base optimizer leaves out this step."""
        return False

    def after(self, training: AnyTraining) -> None:
        """The base optimizer has done its step."""


def described(settings: object) -> str:
    """Settings as text; functions among them are at another address in every process."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(settings))
