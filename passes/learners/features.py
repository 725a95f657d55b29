"""The features of a network, which are outputs of its modules, and hooks that see them.

Every loss term that looks inside a network while it is trained is a `Watch`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import LearnerError

Features = Mapping[tuple[str, int], Tensor]
"""By module name and number of earlier calls in the same pass; in order of execution."""


def find_stages(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names of the modules whose outputs count as features unless others are asked for.

    A stage is a list of blocks: an outermost `nn.ModuleList` or `nn.Sequential` inside the model,
    at least two entries of which own parameters. A model without any, or that is a sequence
    itself, is one stage: its children that own parameters but the last, which makes the output.

    Returns:
        For each stage the names of its blocks; empty if there is no stage.
    """
    stages: list[tuple[str, ...]] = []

    def visit(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            blocks = _blocks(child)
            if len(blocks) >= 2:
                stages.append(tuple(f"{prefix}{name}.{block}" for block in blocks))
            else:
                visit(child, f"{prefix}{name}.")

    if not isinstance(model, nn.Sequential):
        visit(model, "")
    if not stages:
        stages = [tuple(name for name, child in model.named_children() if _trained(child))[:-1]]
    return tuple(stage for stage in stages if stage)


def _blocks(module: nn.Module) -> list[str]:
    """The entries of a list of modules that own parameters; none if it is a list of lists."""
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return []
    entries = [(name, child) for name, child in module.named_children() if _trained(child)]
    # Lists are not called, so that a hook would see nothing.
    if any(isinstance(child, nn.ModuleList | nn.ModuleDict) for _, child in entries):
        return []
    return [name for name, _ in entries]


def _trained(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def float_tensors(output: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of a module's output and the names they go by.

    Args:
        output: a tensor, or mappings, dataclasses, tuples and lists of them, nested at will.
        name: what a tensor is called that has no key or field of its own.
    """
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield name, output
        return
    items: list[tuple[str, Any]] = []
    if isinstance(output, Mapping):
        items = [(str(key), value) for key, value in output.items()]
    elif isinstance(output, tuple | list):
        fields = getattr(output, "_fields", [name] * len(output))
        items = list(zip(fields, output, strict=True))
    elif dataclasses.is_dataclass(output):
        items = [(f.name, getattr(output, f.name)) for f in dataclasses.fields(output)]
    for key, value in items:
        yield from float_tensors(value, key)


def wide(tensor: Tensor) -> Tensor:
    """`tensor` in float32 at least, so that sums over a half-precision feature keep their digits.

    Shape and gradient stay.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


class Recorder:
    """Keeps what named modules of a model return between `start` and `stop`.

    Of an output that is not a tensor, the first floating-point tensor is kept. Tensors are kept
    themselves, not copies: where a network goes on to change one in place, the changed one counts.

    Raises:
        LearnerError: if the model has no module of some name.
    """

    def __init__(self, model: nn.Module, names: Sequence[str] = ()) -> None:
        self._features: dict[tuple[str, int], Tensor] | None = None
        modules = {name: _module(model, name) for name in names}
        self._handles = [
            module.register_forward_hook(partial(self._keep, name))
            for name, module in modules.items()
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        # Hooks are copied and pickled along with their module; those of the copy record nothing.
        return Recorder, (nn.Identity(),)

    def start(self) -> None:
        """Forget what was kept, and keep from now on."""
        self._features = {}

    def stop(self) -> Features:
        """Keep nothing more; returns what was kept."""
        features, self._features = self._features, None
        return features or {}

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._features = None

    def _keep(self, name: str, module: nn.Module, args: Any, output: Any) -> None:
        if self._features is None:
            return
        for _, tensor in float_tensors(output):
            call = 0
            while (name, call) in self._features:
                call += 1
            self._features[name, call] = tensor
            return


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise LearnerError(
            f"there is no module `{name}` to take features from",
            where=type(model).__name__,
            hint="use names that model.named_modules() lists",
        ) from error


class Watch(ABC):
    """A loss term that looks at features of the training passes of a model, and adds up.

    A training pass is a call of the model in training mode while gradients are enabled. Calls of
    `forward` itself bypass hooks, and calls that an export makes are no training. The hooks are on
    the model itself, so it may be wrapped (DistributedDataParallel) or compiled later. Copies of
    the model are not watched.

    Args:
        model: the model to watch.
        names: of the modules whose outputs are the features.

    Raises:
        LearnerError: if the model has no module of some name.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self._model = model
        self._terms: list[Tensor] = []
        self._in_pass = False
        self._names = tuple(names)
        self._features = Recorder(model, names)
        self._handles = [
            model.register_forward_pre_hook(self._enter, with_kwargs=True),
            model.register_forward_hook(self._leave),
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        # Hooks are copied and pickled along with their module; those of the copy watch nothing.
        return _Blind, ()

    @abstractmethod
    def term(self, output: Any, features: Features) -> Tensor:
        """The loss term of a pass that is done, a scalar, of the model's output and features."""

    def prepare(  # noqa: B027
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A pass begins, with these arguments."""

    @property
    def pending(self) -> int:
        """Passes whose terms have not been asked for."""
        return len(self._terms)

    def loss(self) -> Tensor:
        """The sum of the terms of all passes since the last call, a scalar.

        Raises:
            LearnerError: if there was none.
        """
        if not self._terms:
            raise LearnerError(
                "the model has not been called in training mode since this loss was last asked for",
                hint="ask after model(x), with model.train() and gradients enabled; validation has "
                "no such loss",
            )
        terms, self._terms = self._terms, []
        return torch.stack(terms).sum()

    def close(self) -> None:
        """Remove the hooks and forget the passes seen."""
        for handle in self._handles:
            handle.remove()
        self._features.close()
        self._terms = []

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._in_pass = (
            module is self._model
            and module.training
            and torch.is_grad_enabled()
            and not torch.compiler.is_exporting()
        )
        # A pass that raised an error has left the recorder on.
        self._features.stop()
        if self._in_pass:
            self.prepare(args, kwargs)
            self._features.start()

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self._in_pass:
            return
        features = self._features.stop()
        if self._names and not any(tensor.requires_grad for tensor in features.values()):
            raise LearnerError(
                f"the features have no gradient: {', '.join(self._names)}",
                hint="name modules that are called and trained; if activations are checkpointed, "
                "use use_reentrant=False",
            )
        self._terms.append(self.term(output, features))


class _Blind(Watch):
    """What a copy of a watch is."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), ())

    def term(self, output: Any, features: Features) -> Tensor:
        return torch.zeros(())
