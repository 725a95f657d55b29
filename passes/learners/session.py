"""How users begin a training and finish it: what `Pruner` and `Sparsifier` share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Generic

import torch
from torch import nn

from autoprune.errors import LearnerError
from autoprune.ir.discovery import import_files
from autoprune.passes.learners.optimizer import SparseOptimizer, check_base
from autoprune.passes.learners.sharding import reshard
from autoprune.passes.learners.training import AnyTraining, TrainingMethod
from autoprune.passes.patterns import nearest
from autoprune.passes.registry import Registry


class Session(Generic[AnyTraining]):
    """One model, from before its training until something smaller is made of it.

    Methods are found by their names, such as `pruner.hesso(...)`: those of the files beside their
    family, and those that users define.

    Attributes:
        model: the network that is trained.
        optimizer: the one that was made, if any.
    """

    _family: ClassVar[type[TrainingMethod[Any]]]
    """The methods that can be used."""

    _made: ClassVar[str]
    """What it makes, in a word."""

    _example: ClassVar[str]
    """How that is made."""

    model: nn.Module
    optimizer: SparseOptimizer[AnyTraining] | None = None

    def _check(self, base: torch.optim.Optimizer) -> None:
        """Refuse to begin twice, and with an optimizer that is not for this model."""
        if self.optimizer is not None:
            raise LearnerError(
                f"this {type(self).__name__} has {self._made} already",
                hint=f"make a new {type(self).__name__} of the model",
            )
        reshard(self.model)
        check_base(base, self.model)

    def _begin(self, training: AnyTraining) -> SparseOptimizer[AnyTraining]:
        """The optimizer of a training."""
        self.optimizer = SparseOptimizer(training)
        return self.optimizer

    def _finished(self) -> AnyTraining:
        """The training, which is done and has left the model as it should be.

        Raises:
            LearnerError: if it is not, or there was none.
        """
        if self.optimizer is None:
            raise LearnerError(
                f"there is nothing to finish: no {self._made.split()[-1]} was made",
                hint=f"train with {self._example} first",
            )
        self.optimizer.training.check_finished()
        return self.optimizer.training

    def _by_name(self, name: str, begin: Callable[..., Any]) -> Callable[..., Any]:
        """A function that begins a training by the method of a name, with its usual settings."""
        known = known_methods(self._family)
        if name not in known:
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}; {nearest(name, known)}"
                f"methods of training are {', '.join(sorted(known))}"
            )
        kind = known[name]

        def short(
            base: torch.optim.Optimizer,
            method: TrainingMethod[AnyTraining] | None = None,
            **target: Any,
        ) -> Any:
            return begin(base, kind() if method is None else method, **target)

        short.__name__, short.__doc__ = name, kind.__doc__
        return short

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *known_methods(self._family)]


def known_methods(family: type[TrainingMethod[Any]]) -> Registry[type[TrainingMethod[Any]]]:
    """The methods of a family by name, those in the files of its package among them."""
    import_files(family.__module__.rpartition(".")[0])
    return family.named
