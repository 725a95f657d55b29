"""Graph + kept units -> a smaller torch.fx.GraphModule."""

from __future__ import annotations

import copy
import inspect
import operator
import warnings
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from networkx.utils import UnionFind
from torch import fx, nn
from torch.utils import _pytree as pytree

from autoprune.analysis.resizing import resized_calls
from autoprune.analysis.typing import TypedGraph
from autoprune.backends.norms import rescaled_norm
from autoprune.errors import TraceError
from autoprune.frontends.torch import Traced
from autoprune.ir.axes import Axis
from autoprune.ir.graph import Argument, Node, Parameter, Value
from autoprune.ir.positions import Kept, cut_steps, kept_masks
from autoprune.ops.rule import Resized, Scaled, find, writes_in_place

Module = TypeVar("Module", bound=nn.Module)


class GraphNetwork(fx.GraphModule):
    """An exported network that can be trained: `train()` and `eval()` switch its operators.

    An exported graph has the mode of batch normalization and dropout written into its calls.
    Calls that were in training mode although the model was exported in evaluation mode (weight
    standardization is one) always are, and stay so.
    """

    def train(self, mode: bool = True) -> GraphNetwork:
        """Switch every operator that behaves differently in training."""
        super().train(mode)
        switches: dict[str, int] = self.meta.setdefault("mode_switches", _switches(self.graph))
        nodes = [n for n in self.graph.nodes if n.name in switches]
        changed = [n for n in nodes if n.args[switches[n.name]] is not mode]
        for node in changed:
            node.update_arg(switches[node.name], mode)
        if changed:
            self.recompile()
        return self

    def check_inputs(self, expected: tuple[Any, ...]) -> None:
        """From now on refuse inputs that the network was not traced for.

        Args:
            expected: per flattened input, a shape with None for sizes that may vary, or the
                value itself if it is no tensor.
        """

        def check(module: nn.Module, args: Any, kwargs: Any) -> None:
            names = list(inspect.signature(module.forward).parameters)[len(args) :]
            given = [*args, *(kwargs[name] for name in names if name in kwargs)]
            leaves = pytree.tree_leaves(given)
            if len(leaves) == len(expected):
                for leaf, wanted in zip(leaves, expected, strict=True):
                    _check_input(leaf, wanted)

        def install(module: nn.Module) -> None:
            module.register_forward_pre_hook(check, with_kwargs=True)

        install(self)
        self._deepcopy_hooks = [install]


def _check_input(given: Any, expected: Any) -> None:
    if isinstance(given, torch.Tensor):
        shape = tuple(given.shape)
        fits = isinstance(expected, tuple) and len(shape) == len(expected)
        if not fits or any(e not in (None, n) for n, e in zip(shape, expected, strict=True)):
            wanted = ", ".join("any" if e is None else str(e) for e in expected)
            raise TraceError(
                f"this network was traced for inputs of shape ({wanted}), got {shape}",
                hint='trace it with Options(dynamic_shapes="batch"), or on inputs of this shape',
            )
    elif given != expected:
        raise TraceError(f"this network was traced with the input {expected!r}, got {given!r}")


def _expected_inputs(module: fx.GraphModule) -> tuple[Any, ...]:
    values = [n.meta.get("val") for n in module.graph.nodes if n.op == "placeholder"]
    return tuple(
        tuple(d if type(d) is int else None for d in v.shape) if isinstance(v, torch.Tensor) else v
        for v in values
    )


def _switches(graph: fx.Graph) -> dict[str, int]:
    """Position of the mode argument of each call that is in evaluation mode, by node name."""
    found: dict[str, int] = {}
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            for i, argument in enumerate(node.target._schema.arguments[: len(node.args)]):
                if argument.name in ("train", "training") and node.args[i] is False:
                    found[node.name] = i
    return found


def cut_tensor(tensor: torch.Tensor, axes: tuple[Axis, ...], kept: Kept) -> torch.Tensor:
    """The kept positions of a tensor, as a new one of the same kind (parameter or not)."""
    new = cut_values(tensor.detach(), axes, kept)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(new, requires_grad=tensor.requires_grad)
    return new


def cut_values(tensor: torch.Tensor, axes: tuple[Axis, ...], kept: Kept) -> torch.Tensor:
    """The kept positions of a tensor."""
    for dim, index in cut_steps(axes, kept):
        positions = torch.from_numpy(index).to(tensor.device)
        if index.size == index.shape[dim]:
            tensor = tensor.index_select(dim, positions.flatten())
        else:
            tensor = torch.take_along_dim(tensor, positions, dim)
    return tensor


def cut_parameters(traced: Traced, typed: TypedGraph, kept: Kept) -> dict[str, torch.Tensor]:
    """The new tensor of every parameter and buffer that changes, under each of its names.

    Tied names share one new tensor.
    """
    changed: dict[str, torch.Tensor] = {}
    for parameter in traced.graph.parameters:
        axes = typed.types[parameter.value.name]
        if not all(axis.uids.isdisjoint(kept) for axis in axes):
            new = cut_tensor(get_tensor(traced.module, parameter.names[0]), axes, kept)
            changed.update(dict.fromkeys(parameter.names, new))
    return changed


def copy_without(module: nn.Module, paths: Iterable[str]) -> Any:
    """A deep copy that still shares the tensors at `paths`, which are about to be replaced."""
    shared = {id(tensor): tensor for tensor in (get_tensor(module, path) for path in paths)}
    with warnings.catch_warnings():
        # torch warns about its own tree specifications when they are copied.
        warnings.simplefilter("ignore", FutureWarning)
        return copy.deepcopy(module, shared)


def get_tensor(module: nn.Module, path: str) -> torch.Tensor:
    """The parameter, buffer or tensor attribute at a dotted path."""
    owner, _, name = path.rpartition(".")
    tensor: torch.Tensor = getattr(module.get_submodule(owner), name)
    return tensor


def set_tensor(module: nn.Module, path: str, tensor: torch.Tensor) -> None:
    """Replace the parameter, buffer or tensor attribute at a dotted path."""
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, tensor)


def with_tensors(module: Module, tensors: Mapping[str, torch.Tensor]) -> Module:
    """A copy of a module in which some parameters have other values, under all their names."""
    if not tensors:
        return module
    names: dict[int, list[str]] = {}
    for name, tensor in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), []).append(name)
    replaced: Module = copy_without(module, tensors)
    for path, values in tensors.items():
        old = get_tensor(module, path)
        new = nn.Parameter(values.detach().clone(), requires_grad=old.requires_grad)
        for name in names[id(old)]:
            set_tensor(replaced, name, new)
    return replaced


def cut_graph(traced: Traced, typed: TypedGraph, kept: Kept) -> GraphNetwork:
    """The traced network without the units that are not kept, in evaluation mode."""
    changed = cut_parameters(traced, typed, kept)
    duplicate = copy_without(traced.module, changed)
    module = GraphNetwork(duplicate, duplicate.graph)
    for path, tensor in changed.items():
        set_tensor(module, path, tensor)
    module.check_inputs(_expected_inputs(traced.module))
    _Rewriter(module, traced.graph.nodes, traced.graph.parameters).rewrite(
        resized_calls(typed, kept)
    )
    module.eval()
    return module


class _Rewriter:
    """Writes new arguments into the fx graph, whose node names are those of the IR."""

    def __init__(
        self, module: fx.GraphModule, nodes: tuple[Node, ...], parameters: tuple[Parameter, ...]
    ) -> None:
        self.module = module
        self.fx = {n.name: n for n in module.graph.nodes}
        self.nodes = nodes
        self.parameters = parameters

    def rewrite(self, calls: Mapping[str, Resized]) -> None:
        for node in self.nodes:
            if node.name in calls:
                self._rewrite(self.fx[node.name], calls[node.name])
        self._allow_copies()
        self.module.graph.lint()
        self.module.recompile()

    def _allow_copies(self) -> None:
        """Axes that shrink to one position change strides, so that some views become impossible.

        Views of memory that is written to stay views.
        """
        memory = UnionFind(v.name for node in self.nodes for v in (*node.inputs, *node.outputs))
        written: list[str] = []
        for node in self.nodes:
            operator = find(node.op)
            if node.inputs and (writes_in_place(node.op) or (operator and operator.aliases)):
                memory.union(*(v.name for v in (node.inputs[0], *node.outputs)))
            if node.inputs and writes_in_place(node.op):
                written.append(node.inputs[0].name)
        shared = {memory[name] for name in written}
        for node in self.nodes:
            n = self.fx[node.name]
            is_view = n.target is torch.ops.aten.view.default
            if is_view and memory[node.outputs[0].name] not in shared:
                n.target = torch.ops.aten.reshape.default

    def _rewrite(self, n: fx.Node, call: Resized) -> None:
        with self.module.graph.inserting_before(n):
            new = {name: self._argument(a) for name, a in call.arguments.items()}
        normal = n.normalized_arguments(self.module, normalize_to_only_use_kwargs=True)
        assert normal is not None
        if call.op is not None:
            n.target = _overload(call.op)
            n.args = (n.args[0], *new.values())
            n.kwargs = {}
        else:
            order = list(normal.kwargs)
            for name, argument in new.items():
                position = order.index(name)
                if position < len(n.args):
                    n.update_arg(position, argument)
                else:
                    n.update_kwarg(name, argument)
        if call.share != 1.0:
            kwargs = n.normalized_arguments(self.module, normalize_to_only_use_kwargs=True)
            assert kwargs is not None
            n.target = rescaled_norm(n.target)
            n.args, n.kwargs = (), {**kwargs.kwargs, "share": call.share}
        if call.scale != 1.0:
            with self.module.graph.inserting_after(n):
                scaled = self.module.graph.call_function(torch.ops.aten.mul.Tensor, (n, call.scale))
            n.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)

    def _argument(self, a: Argument | Scaled) -> Any:
        if isinstance(a, Scaled):
            graph = self.module.graph
            times = graph.call_function(operator.mul, (self.fx[a.size.name], a.numerator))
            return graph.call_function(operator.floordiv, (times, a.denominator))
        if isinstance(a, tuple):
            return [self._argument(part) for part in a]
        if isinstance(a, Value):
            return self.fx[a.name]
        return a


def _overload(op: str) -> Any:
    namespace, packet, overload = op.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload)


def zeroed_parameters(
    traced: Traced,
    typed: TypedGraph,
    kept: Kept,
    spared: Mapping[str, frozenset[int]] = MappingProxyType({}),
) -> dict[str, torch.Tensor]:
    """The trained parameters with every position that does not stay set to zero.

    Args:
        traced: the network.
        typed: its axis types.
        kept: the units that stay.
        spared: by parameter, leaves that are left whole in it.

    For `torch.func.functional_call`; only changed parameters are listed, under one name each.
    """
    changed: dict[str, torch.Tensor] = {}
    for parameter in traced.graph.parameters:
        if parameter.kind == "parameter":
            whole = spared.get(parameter.value.name, frozenset())
            choice = {uid: units for uid, units in kept.items() if uid not in whole}
            masks = list(kept_masks(typed.types[parameter.value.name], choice))
            if masks:
                tensor = get_tensor(traced.module, parameter.names[0]).detach().clone()
                for mask in masks:
                    tensor.masked_fill_(~torch.from_numpy(mask).to(tensor.device), 0)
                changed[parameter.names[0]] = tensor
    return changed
