"""Objects of a library's or a user's own among the inputs and outputs of a forward pass.

`torch.export` takes tensors, numbers and the containers that pytree knows. Everything else reaches
it in a plain form, as a list of the tensors that an object holds, so that no class has to be
registered. An object that comes out is *state*, not an output, if the forward takes such an object
back, or if it is no dataclass and there are tensors beside it: the cache of a decoder. The tensors
in it may change their sizes with the layers that fill it, and are not compared.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils import _pytree as pytree

Forward = Callable[..., Any]

PLAIN = (
    torch.Tensor, torch.SymInt, torch.SymFloat, torch.SymBool, nn.Module, int, float, str,
    type(None),
)  # fmt: skip
"""Leaves of trees that torch.export takes as they are."""


class Inputs(NamedTuple):
    """Positional and keyword arguments of a forward pass."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Mold:
    """An object to be copied with other tensors, or other values in their places."""

    value: Any
    held: Sequence[Any]

    def filled(self, parts: Sequence[Any]) -> Any:
        """A copy that holds these in place of what the object holds."""
        memo = {id(old): new for old, new in zip(self.held, parts, strict=True)}
        return copy.deepcopy(self.value, memo)


@dataclass(frozen=True)
class Outputs:
    """What a forward pass returned, as far as it can be compared.

    Attributes:
        values: the outputs in plain form, None in place of state.
        structure: of the outputs with their own objects as leaves.
        molds: those objects, by position among the leaves.
        state: what was left out, such as `past_key_values (DynamicCache)`.
    """

    values: Any
    structure: pytree.TreeSpec
    molds: Mapping[int, Mold]
    state: tuple[str, ...]

    def hollow(self) -> Outputs:
        """What `restored` needs, without the tensors."""
        molds = {}
        for i, mold in self.molds.items():
            parts = [torch.empty(0) for _ in mold.held]
            molds[i] = Mold(mold.filled(parts), parts)
        return Outputs(None, self.structure, molds, ())

    def restored(self, values: Any) -> Any:
        """Outputs with objects, from others in plain form."""
        leaves = self.structure.flatten_up_to(values)
        for i, mold in self.molds.items():
            leaves[i] = mold.filled(leaves[i])
        return pytree.tree_unflatten(leaves, self.structure)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors that an object holds in attributes, slots and containers, each once."""
    return list(_tensors(value, {}))


def _tensors(value: Any, seen: dict[int, Any]) -> Iterator[torch.Tensor]:
    if id(value) in seen:
        return
    seen[id(value)] = value  # and so keeps it alive, and its id its own
    if isinstance(value, torch.Tensor):
        yield value
    elif not isinstance(value, (*PLAIN, type)):
        for part in _parts(value):
            yield from _tensors(part, seen)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, tuple | list | set | frozenset):
        yield from value
    yield from getattr(value, "__dict__", {}).values()
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(value, name, None)


def plain(inputs: Inputs) -> Inputs:
    """The arguments with lists of tensors in place of objects."""
    found: Inputs = pytree.tree_map(lambda v: v if isinstance(v, PLAIN) else tensors_in(v), inputs)
    return found


def input_leaves(inputs: Inputs) -> list[Any]:
    """The arguments in the order in which the placeholders of an exported graph take them."""
    return pytree.tree_leaves(plain(inputs))


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], inputs: Inputs) -> Inputs:
    """A copy of the arguments with other tensors, in objects, too."""

    def mapped(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return function(leaf)
        if isinstance(leaf, PLAIN):
            return leaf
        held = tensors_in(leaf)
        return Mold(leaf, held).filled([function(tensor) for tensor in held])

    found: Inputs = pytree.tree_map(mapped, inputs)
    return found


def restore(inputs: Inputs, given: Inputs) -> Inputs:
    """Arguments like `inputs` from others that are plain."""

    def restored(leaf: Any, parts: Any) -> Any:
        return parts if isinstance(leaf, PLAIN) else Mold(leaf, tensors_in(leaf)).filled(parts)

    found: Inputs = pytree.tree_map(restored, inputs, given)
    return found


def read_outputs(returned: Any, forward: Forward) -> Outputs:
    """Tell outputs from state, and bring them into plain form.

    Args:
        returned: by a call of `forward`.
        forward: of the model; an object that it returns under the name or of the type of one of
            its parameters is state.
    """
    stripper = _Stripper(forward)
    outputs = stripper.outputs(returned)
    leaves, structure = pytree.tree_flatten(outputs)
    molds: dict[int, Mold] = {}
    for i, leaf in enumerate(leaves):
        if not isinstance(leaf, PLAIN):
            leaves[i] = held = tensors_in(leaf)
            slots = [object() for _ in held]
            molds[i] = Mold(Mold(leaf, held).filled(slots), slots)
    values = pytree.tree_unflatten(leaves, structure)
    return Outputs(values, structure, molds, tuple(stripper.state))


class _Stripper:
    """Takes state, and objects without tensors, out of what a forward returns."""

    def __init__(self, forward: Forward) -> None:
        self.parameters = inspect.signature(forward).parameters
        self.state: list[str] = []

    def outputs(self, returned: Any) -> Any:
        """The outputs without state; objects count as state if there is any tensor but theirs."""
        without = self._stripped(returned, "", inside=False)
        if any(isinstance(leaf, torch.Tensor) for leaf in _leaves(without)):
            return without
        self.state.clear()
        return self._stripped(returned, "", inside=True)

    def _stripped(self, value: Any, name: str, *, inside: bool) -> Any:
        """One of the outputs; with `inside`, objects that are no dataclasses may be outputs."""
        if isinstance(value, PLAIN):
            return value
        is_data = dataclasses.is_dataclass(value) or isinstance(value, tuple | list | Mapping)
        is_node = not pytree.tree_is_leaf(value)
        if not isinstance(value, tuple | list | Mapping):
            if not tensors_in(value):
                return None
            kind = type(value)
            if self._takes(kind, name) or not (is_node or is_data or inside):
                self.state.append(f"{name} ({kind.__name__})" if name else kind.__name__)
                return None
        if not is_node and isinstance(value, tuple | list | Mapping):
            value = dict(value) if isinstance(value, Mapping) else list(value)
            is_node = True
        if is_node:
            children, structure = pytree.tree_flatten_with_path(
                value, is_leaf=lambda part: part is not value
            )
            parts = [self._stripped(v, _name(path), inside=inside) for path, v in children]
            return pytree.tree_unflatten(parts, structure)
        if is_data:
            names = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]
            fields = {n: self._stripped(getattr(value, n), n, inside=inside) for n in names}
            return _changed(value, fields)
        return _changed(value, self.outputs(getattr(value, "__dict__", {})))

    def _takes(self, kind: type, name: str) -> bool:
        """Whether the forward has a parameter of a name or a type."""
        word = re.compile(rf"\b{re.escape(kind.__name__)}\b")
        return name in self.parameters or any(
            word.search(inspect.formatannotation(parameter.annotation))
            for parameter in self.parameters.values()
        )


def _leaves(outputs: Any) -> list[Any]:
    """The leaves of outputs in which only dataclasses are objects."""
    return [
        part
        for leaf in pytree.tree_leaves(outputs)
        for part in (tensors_in(leaf) if dataclasses.is_dataclass(leaf) else [leaf])
    ]


def _changed(value: Any, entries: Mapping[str, Any]) -> Any:
    """A copy of an object with other attributes, which may be frozen."""
    changed = copy.copy(value)
    for name, entry in entries.items():
        object.__setattr__(changed, name, entry)
    return changed


def _name(path: Sequence[Any]) -> str:
    """The last step on the way to a leaf, as a name."""
    key = path[-1]
    return str(getattr(key, "key", getattr(key, "name", "")))
