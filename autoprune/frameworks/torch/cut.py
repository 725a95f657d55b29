"""Graph + kept units -> a smaller torch.fx.GraphModule."""

from __future__ import annotations

import copy
import inspect
import operator
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from networkx.utils import UnionFind
from numpy.typing import NDArray
from torch import fx, nn
from torch.utils import _pytree as pytree

from autoprune.analysis.guarantees import Spared, trained_masks
from autoprune.analysis.resizing import resized_calls
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import TraceError
from autoprune.frameworks.torch.arrays import get_tensor, set_tensor
from autoprune.frameworks.torch.autocast import left_as_found
from autoprune.frameworks.torch.norms import RESCALED
from autoprune.frameworks.torch.objects import Inputs, Outputs, plain
from autoprune.frameworks.torch.runner import SCALED, Change
from autoprune.frameworks.torch.trace import Traced, computed_tensors
from autoprune.ir.axes import Axis
from autoprune.ir.graph import Argument, Node, Value
from autoprune.ir.positions import Kept, cut_steps
from autoprune.ops.rule import find, writes_in_place
from autoprune.ops.views import Resized, Scaled

Module = TypeVar("Module", bound=nn.Module)


class GraphNetwork(fx.GraphModule):
    """An exported network that can be trained: `train()` and `eval()` switch its operators.

    An exported graph has the mode of batch normalization and dropout written into its calls.
    Calls that were in training mode although the model was exported in evaluation mode (weight
    standardization is one) always are, and stay so.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with left_as_found(self.graph):
            return super().__call__(*args, **kwargs)

    def train(self, mode: bool = True) -> GraphNetwork:
        """Switch every operator that behaves differently in training."""
        super().train(mode)
        if "mode_switches" not in self.meta:
            self.meta["mode_switches"] = _switches(self.graph)
        switches: dict[str, int] = self.meta["mode_switches"]
        nodes = [n for n in self.graph.nodes if n.name in switches]
        changed = [n for n in nodes if n.args[switches[n.name]] is not mode]
        for node in changed:
            node.update_arg(switches[node.name], mode)
        if changed:
            self.recompile()
        return self

    def follow(self, expected: tuple[Any, ...], outputs: Outputs | None) -> None:
        """From now on take and return what the model does, and refuse other inputs.

        Args:
            expected: per flattened input, a shape with None for sizes that may vary, or the
                value itself if it is no tensor.
            outputs: how the model's outputs were read, if it returns objects of its own.
        """
        following = _Following(expected, outputs.hollow() if outputs and outputs.molds else None)
        following.install(self)
        self._deepcopy_hooks = [following.install]

    def __reduce__(self) -> Any:
        # What torch.fx reads back is a GraphModule without hooks, whose nodes have other names.
        read, (state, *imports) = super().__reduce__()
        arguments = ({**state, "_tracer_cls": fx.Tracer}, *imports)
        switches = self.meta.get("mode_switches", {})
        calls = [node for node in self.graph.nodes if node.op == "call_function"]
        places = {i: switches[n.name] for i, n in enumerate(calls) if n.name in switches}
        return _read_back, (read, arguments, self._deepcopy_hooks, places, self.training)


def _read_back(
    read: Any, arguments: Any, hooks: Sequence[Any], places: Mapping[int, int], training: bool
) -> GraphNetwork:
    """A network from what pickle keeps of it."""
    module = read(*arguments)
    network = GraphNetwork(module, module.graph)
    # Tensors that the graph does not read, and their order, are lost on the way.
    owned = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
    network.__dict__.update({name: arguments[0][name] for name in owned})
    calls = [node for node in network.graph.nodes if node.op == "call_function"]
    network.meta["mode_switches"] = {calls[i].name: argument for i, argument in places.items()}
    for child in network.modules():
        child.training = training
    for hook in hooks:
        hook(network)
    network._deepcopy_hooks = list(hooks)
    return network


@dataclass(frozen=True)
class _Following:
    """Hooks by which a graph takes and returns what its model does."""

    expected: tuple[Any, ...]
    outputs: Outputs | None

    def __deepcopy__(self, memo: Any) -> _Following:
        return self

    def install(self, module: nn.Module) -> None:
        module.register_forward_pre_hook(self.check, with_kwargs=True)
        if self.outputs is not None:
            module.register_forward_hook(self.restore)

    def check(self, module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        names = list(inspect.signature(module.forward).parameters)[len(args) :]
        args, kwargs = plain(Inputs(args, kwargs))
        given = [*args, *(kwargs[name] for name in names if name in kwargs)]
        leaves = pytree.tree_leaves(given)
        tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        if len(leaves) == len(self.expected) and not tracing:
            for leaf, wanted in zip(leaves, self.expected, strict=True):
                _check_input(leaf, wanted)
        return args, kwargs

    def restore(self, module: nn.Module, args: Any, values: Any) -> Any:
        assert self.outputs is not None
        return self.outputs.restored(values)


def accepts(module: fx.GraphModule, leaves: Sequence[Any]) -> bool:
    """Whether an exported graph computes for flattened inputs of these sizes what its model does.

    Sizes that are not those of the example inputs have to be dynamic.
    """
    expected = _expected_inputs(module)
    return len(leaves) == len(expected) and all(map(_fits, leaves, expected))


def _fits(given: Any, expected: Any) -> bool:
    if not isinstance(given, torch.Tensor):
        return bool(given == expected)
    is_shape = isinstance(expected, tuple) and given.ndim == len(expected)
    return is_shape and all(e in (None, n) for n, e in zip(given.shape, expected, strict=True))


def _check_input(given: Any, expected: Any) -> None:
    if _fits(given, expected):
        return
    if not isinstance(given, torch.Tensor):
        raise TraceError(f"this network was traced with the input {expected!r}, got {given!r}")
    wanted = ", ".join("any" if e is None else str(e) for e in expected)
    raise TraceError(
        f"this network was traced for inputs of shape ({wanted}), got {tuple(given.shape)}",
        hint='trace it with Options(dynamic_shapes="batch"), or on inputs of this shape',
    )


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
    new = tensor.detach()
    for dim, index in cut_steps(axes, kept):
        positions = torch.from_numpy(index).to(new.device)
        if index.size == index.shape[dim]:
            new = new.index_select(dim, positions.flatten())
        else:
            new = torch.take_along_dim(new, positions, dim)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(new, requires_grad=tensor.requires_grad)
    return new


def cut_parameters(traced: Traced, typed: TypedGraph, kept: Kept) -> dict[str, torch.Tensor]:
    """The new tensor of every parameter and buffer that changes, under each of its names.

    Tied names share one new tensor.
    """
    changed: dict[str, torch.Tensor] = {}
    tensors = owned_tensors(traced)
    for parameter in traced.graph.parameters:
        name = parameter.value.name
        if not typed.uids[name].isdisjoint(kept):
            new = cut_tensor(tensors[name], typed.types[name], kept)
            changed.update(dict.fromkeys(parameter.names, new))
    return changed


def owned_tensors(traced: Traced) -> dict[str, torch.Tensor]:
    """Every tensor of a traced model, by value name."""
    return {p.value.name: get_tensor(traced.module, p.names[0]) for p in traced.graph.parameters}


def copy_without(module: nn.Module, paths: Iterable[str]) -> Any:
    """A deep copy that still shares the tensors at `paths`, which are about to be replaced."""
    shared = {id(tensor): tensor for tensor in (get_tensor(module, path) for path in paths)}
    with _quiet_copies():
        return copy.deepcopy(module, computed_tensors(module) | shared)


@contextmanager
def _quiet_copies() -> Iterator[None]:
    """Torch warns about its own tree specifications when they are copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def with_tensors(module: Module, tensors: Mapping[str, torch.Tensor]) -> Module:
    """A module in which some parameters have other values, under all their names.

    It is a copy that shares all other tensors.
    """
    if not tensors:
        return module
    names = names_by_tensor(module)
    owned = (name for tied in names.values() for name in tied)
    replaced: Module = copy_without(module, (*owned, *tensors))
    for path, values in tensors.items():
        old = get_tensor(module, path)
        new = nn.Parameter(values.detach(), requires_grad=old.requires_grad)
        for name in names[id(old)]:
            set_tensor(replaced, name, new)
    return replaced


def names_by_tensor(module: nn.Module) -> dict[int, list[str]]:
    """By identity of a parameter or buffer, all its names."""
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    return names


def cut_graph(
    traced: Traced, typed: TypedGraph, kept: Kept, *, shared: bool = False
) -> GraphNetwork:
    """The traced network without the units that are not kept, in evaluation mode.

    With `shared`, what does not change is not copied; for what is not handed out.
    """
    with _quiet_copies():
        graph = copy.deepcopy(traced.module.graph)
    _Rewriter(traced.module, graph, traced.graph.nodes).rewrite(resized_calls(typed, kept))
    module = GraphNetwork(traced.module, graph)
    _replace_attributes(module, cut_parameters(traced, typed, kept), shared=shared)
    module.follow(_expected_inputs(traced.module), traced.outputs)
    module.eval()
    return module


def independent(network: GraphNetwork, traced: Traced) -> GraphNetwork:
    """A cut network that was made `shared`, with copies of what it shares, in the model's mode."""
    theirs = {id(p): p for p in traced.module.parameters()}
    memo: dict[int, Any] = {}
    for path, parameter in list(network.named_parameters(remove_duplicate=False)):
        if id(parameter) in theirs:
            set_tensor(network, path, copy.deepcopy(parameter, memo))
    return network.train(traced.model.training)


def _replace_attributes(
    module: fx.GraphModule, new: Mapping[str, torch.Tensor], *, shared: bool
) -> None:
    """Give a module its own copy of everything that its graph names, or what is new there."""
    named = dict.fromkeys(str(n.target) for n in module.graph.nodes if n.op == "get_attr")
    memo: dict[int, Any] = {id(p): p for p in module.parameters()} if shared else {}
    with _quiet_copies():
        regions = named.keys() & dict(module.named_modules(remove_duplicate=False)).keys()
        for path in sorted(regions):  # first, as other names may lie inside
            module.set_submodule(path, copy.deepcopy(module.get_submodule(path), memo))
        owners = dict(module.named_modules(remove_duplicate=False))
        for path in named:
            if path not in regions:
                owner, _, name = path.rpartition(".")
                old = getattr(owners[owner], name)
                value = new[path] if path in new else copy.deepcopy(old, memo)
                if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter):
                    owners[owner].register_buffer(name, value)
                else:
                    setattr(owners[owner], name, value)


class _Rewriter:
    """Writes new arguments into an fx graph, whose node names are those of the IR."""

    def __init__(self, root: nn.Module, graph: fx.Graph, nodes: tuple[Node, ...]) -> None:
        self.root = root
        self.graph = graph
        self.fx = {n.name: n for n in graph.nodes}
        self.nodes = nodes

    def rewrite(self, calls: Mapping[str, Resized]) -> None:
        for node in self.nodes:
            if node.name in calls:
                self._rewrite(node, calls[node.name])
        self._allow_copies()

    def _allow_copies(self) -> None:
        """Axes that shrink to one position change strides, so that some views become impossible.

        Views of memory that is written to stay views.
        """
        views = [n for n in self.nodes if self.fx[n.name].target is torch.ops.aten.view.default]
        shared = _memory_written_to(self.nodes) if views else frozenset[str]()
        for node in views:
            if node.outputs[0].name not in shared:
                self.fx[node.name].target = torch.ops.aten.reshape.default

    def _rewrite(self, node: Node, call: Resized) -> None:
        n = self.fx[node.name]
        with self.graph.inserting_before(n):
            new = {name: self._argument(a) for name, a in call.arguments.items()}
        if call.op is not None:
            n.target = find_overload(call.op)
            n.args = (n.args[0], *new.values())
            n.kwargs = {}
        else:
            order = list(node.arguments)
            for name, argument in new.items():
                position = order.index(name)
                if position < len(n.args):
                    n.update_arg(position, argument)
                else:
                    n.update_kwarg(name, argument)
        if call.share != 1.0:
            kwargs = n.normalized_arguments(self.root, normalize_to_only_use_kwargs=True)
            assert kwargs is not None
            n.target = RESCALED[n.target]
            n.args, n.kwargs = (), {**kwargs.kwargs, "share": call.share}
        if call.scale != 1.0:
            with self.graph.inserting_after(n):
                scaled = self.graph.call_function(torch.ops.aten.mul.Tensor, (n, call.scale))
            n.replace_all_uses_with(scaled, delete_user_cb=lambda user: user is not scaled)
            n.meta[SCALED], scaled.meta["value"] = True, n.name

    def _argument(self, a: Argument | Scaled) -> Any:
        if isinstance(a, Scaled):
            size = self.fx[a.size.name]
            times = self.graph.call_function(operator.mul, (size, a.numerator))
            return self.graph.call_function(operator.floordiv, (times, a.denominator))
        if isinstance(a, tuple):
            return [self._argument(part) for part in a]
        if isinstance(a, Value):
            return self.fx[a.name]
        return a


def _memory_written_to(nodes: Sequence[Node]) -> frozenset[str]:
    """Values that share memory with one that an in-place call writes to."""
    written = [n.inputs[0].name for n in nodes if n.inputs and writes_in_place(n.op)]
    if not written:
        return frozenset()
    memory = UnionFind(v.name for node in nodes for v in (*node.inputs, *node.outputs))
    for node in nodes:
        operator = find(node.op)
        if node.inputs and (writes_in_place(node.op) or (operator and operator.aliases)):
            memory.union(*(v.name for v in (node.inputs[0], *node.outputs)))
    roots = {memory[name] for name in written}
    return frozenset(name for name in memory if memory[name] in roots)


def find_overload(op: str) -> Any:
    """The operator of a name such as `aten.add.Tensor`."""
    return operator.attrgetter(op)(torch.ops)


def zeroing(typed: TypedGraph, kept: Kept, spared: Spared) -> dict[str, Change]:
    """What sets every position of the trained parameters to zero that does not stay.

    Args:
        typed: the axis types of the network.
        kept: the units that stay.
        spared: by parameter, leaves that are left whole in it.

    By path, under each of a parameter's names; those that keep all their values are left out.
    """
    return {
        path: partial(_zeroed, masks)
        for parameter, masks in trained_masks(typed, kept, spared)
        for path in parameter.names
    }


def _zeroed(masks: Sequence[NDArray[np.bool_]], tensor: torch.Tensor) -> torch.Tensor:
    """A copy of a tensor with zeros wherever one of the masks is false."""
    zeroed = tensor.detach().clone()
    for mask in masks:
        zeroed.masked_fill_(~torch.from_numpy(mask).to(zeroed.device), 0)
    return zeroed
