"""torch.nn.Module -> Graph, through torch.export."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from autoprune.errors import TraceError
from autoprune.frameworks.torch.arrays import get_tensor, set_tensor
from autoprune.frameworks.torch.causes import cannot_be_exported, does_not_run
from autoprune.frameworks.torch.exported import read, simplify
from autoprune.frameworks.torch.objects import (
    Inputs,
    Outputs,
    input_leaves,
    plain,
    read_outputs,
    restore,
)
from autoprune.frameworks.torch.packed import export
from autoprune.frameworks.torch.quantized import check_graph, check_weights
from autoprune.frameworks.torch.wanted import wanted_outputs
from autoprune.frameworks.torch.wrappers import network_inside, network_of
from autoprune.ir.graph import Graph, verify


@dataclass(frozen=True)
class Traced:
    """A model as a graph, with the fx module it was read from.

    Attributes:
        model: the module that was traced, without wrappers.
        graph: the framework-free graph; node names are those of the fx nodes.
        module: the exported model as a GraphModule in evaluation mode; it shares the model's
            parameters.
        inputs: the example inputs, as positional and keyword arguments.
        dynamic_shapes: what was passed to torch.export.
        outputs: how the model's outputs were read; None if it is an exported graph.
        wanted: positions of those that matter among their leaves in plain form; None for all.
    """

    model: nn.Module
    graph: Graph
    module: fx.GraphModule
    inputs: Inputs
    dynamic_shapes: Any
    outputs: Outputs | None
    wanted: frozenset[int] | None = None

    def required(self, outputs: Any) -> list[Any]:
        """The leaves of outputs, in plain form, that matter."""
        leaves = pytree.tree_leaves(outputs)
        return [v for i, v in enumerate(leaves) if self.wanted is None or i in self.wanted]

    @cached_property
    def output_names(self) -> tuple[str | None, ...]:
        """By leaf of the outputs in plain form, the name of the value, or None if it is loose."""
        (output,) = self.module.graph.find_nodes(op="output")
        positions, required = self.wanted, {v.name for v in self.graph.required}
        names: list[str | None] = []
        for i, leaf in enumerate(pytree.tree_leaves(output.args)):
            matters = isinstance(leaf, fx.Node) and (positions is None or i in positions)
            name = self._value_name(leaf, required) if matters else None
            names.append(f"{name}, output {i}" if name and name in names else name)
        return tuple(names)

    def _value_name(self, n: fx.Node, known: Collection[str]) -> str | None:
        if n.op == "get_attr":
            path = str(n.target)
            return next((p.value.name for p in self.graph.parameters if path in p.names), None)
        return next((name for name in (n.name, f"{n.name}'") if name in known), None)


def as_inputs(example_inputs: Any) -> Inputs:
    """Normalise `example_inputs` to positional and keyword arguments.

    A tuple or list holds positional arguments, a mapping keyword arguments, anything else, and a
    packed sequence, is the only argument.
    """
    if isinstance(example_inputs, Inputs):
        return example_inputs
    if isinstance(example_inputs, PackedSequence):
        return Inputs((example_inputs,), {})
    if isinstance(example_inputs, tuple | list):
        return Inputs(tuple(example_inputs), {})
    if isinstance(example_inputs, Mapping):
        return Inputs((), dict(example_inputs))
    return Inputs((example_inputs,), {})


def ordered(model: nn.Module, inputs: Inputs) -> Inputs:
    """In the forward's own order, which is the order of the exported graph's inputs."""
    args, kwargs = inputs
    order = [name for name in inspect.signature(model.forward).parameters if name in kwargs]
    return Inputs(args, {name: kwargs[name] for name in dict.fromkeys([*order, *kwargs])})


def trace(
    model: nn.Module,
    example_inputs: Any,
    *,
    dynamic_shapes: Any = None,
    outputs: tuple[int | str, ...] = (),
) -> Traced:
    """Export a model in evaluation mode and read it into a graph.

    Args:
        model: any module, see `network_of`; it is not changed (a copy is traced).
        example_inputs: a tensor, a tuple of positional arguments or a dict of keyword arguments.
        dynamic_shapes: None, `"batch"` (the first dimension of every tensor may vary), `"fixed"`,
            or what `torch.export.export` takes.
        outputs: those that matter, by position, key or field; empty for all.

    Raises:
        TraceError: if `model` does not run on the inputs, or cannot be exported.
    """
    model = network_of(model)
    _check_traceable(model)
    check_weights(model)
    args, kwargs = as_inputs(example_inputs)
    _check_unpacked((args, kwargs))
    inputs = ordered(model, Inputs(args, kwargs))
    dynamic_shapes = as_dynamic_shapes(model, inputs, dynamic_shapes)
    _check_names(model)
    try:
        exported, returned = _export(model, inputs, dynamic_shapes)
    except TraceError as error:
        if "dynamic_shapes" not in error.what:
            error.hint = network_inside(model, args, kwargs) or error.hint
        raise
    module = exported.module(check_guards=False)
    if not isinstance(module, fx.GraphModule):
        raise TraceError("torch.export returned no graph")
    simplify(module)
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    wanted = wanted_outputs(module, returned, outputs)
    graph = read(module, input_leaves(inputs), buffers, wanted)
    verify(graph)
    check_graph(graph)
    _own_what_is_written_to(module, graph)
    return Traced(model, graph, module, inputs, dynamic_shapes, returned, wanted)


def _own_what_is_written_to(module: fx.GraphModule, graph: Graph) -> None:
    """Give an exported module parameters of its own where its calls write to them."""
    for value in graph.mutated:
        paths = graph.parameter_of[value.name].names
        old = get_tensor(module, paths[0])
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(old.detach().clone(), old.requires_grad)
            for path in paths:
                set_tensor(module, path, new)


def _check_unpacked(inputs: Any) -> None:
    """Refuse inputs whose shapes depend on how long the sequences in them are.

    Raises:
        TraceError: if there is a packed sequence.
    """
    leaves = pytree.tree_leaves(inputs, is_leaf=lambda v: isinstance(v, PackedSequence))
    if any(isinstance(leaf, PackedSequence) for leaf in leaves):
        raise TraceError(
            "an example input is a packed sequence, which torch.export cannot take",
            hint="give a model that takes padded sequences and their lengths, and packs them in "
            "its forward with pack_padded_sequence",
        )


def check_outputs(traced: Traced, model: nn.Module) -> None:
    """Refuse models of which nothing could be compared.

    Raises:
        TraceError: if no tensor comes out.
    """
    if not traced.graph.outputs:
        raise TraceError(
            "no tensor comes out of the model",
            where=type(model).__name__,
            hint=network_inside(model, *traced.inputs) or "pass a model whose forward returns some",
        )


def _check_traceable(model: nn.Module) -> None:
    """Notice what torch.export fails on without saying what it is."""
    for name, module in model.named_modules():
        where = f"{type(module).__name__} at {name!r}" if name else type(module).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceError(
                "TorchScript cannot be exported",
                where=where,
                hint="pass the module that it was made of, before torch.jit.script or trace",
            )
        if any(p.is_meta for p in module.parameters(recurse=False)):
            raise TraceError(
                "weights are on the meta device and have no values",
                where=where,
                hint="load the model with its weights, or give it some: "
                'model.to_empty(device="cpu"), then load_state_dict',
            )
        if any(map(torch.nn.parameter.is_lazy, module.parameters(recurse=False))):
            raise TraceError(
                "parameters have no values yet",
                where=where,
                hint="call the model once on the example inputs, which gives them their shapes",
            )


def _check_names(model: nn.Module) -> None:
    """Names at the top of a model become attributes of a graph module, which has some itself."""
    own = (*model._modules, *model._parameters, *model._buffers)
    for name in own:
        if isinstance(getattr(fx.GraphModule, name, None), property):
            raise TraceError(
                f"torch.fx keeps something of its own under the name `{name}`",
                where=f"attribute {name} of {type(model).__name__}",
                hint="rename it, or wrap the model: torch.nn.Sequential(model)",
            )


def copy_of(model: nn.Module, *, shared: bool = False) -> nn.Module:
    """A copy of a model.

    Args:
        model: the model.
        shared: its parameters share their memory with the model's; for what computes nothing.

    Raises:
        TraceError: if it cannot be copied.
    """
    memo = computed_tensors(model)
    if shared:
        memo |= {
            id(p): nn.Parameter(p.detach(), p.requires_grad)
            for p in model.parameters()
            if type(p) is nn.Parameter
        }
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TraceError(
            f"the model cannot be copied: {error}",
            where=type(model).__name__,
            hint="autoprune works on a copy; make the model deep-copyable (copy.deepcopy)",
        ) from error


def computed_tensors(model: nn.Module) -> dict[int, Any]:
    """A memo for `copy.deepcopy` of a model that keeps tensors it computed from its parameters.

    Hooks of weight normalization and of masks put such tensors where layers look for their weights,
    and make them anew in each forward pass; torch does not copy what has a gradient.
    """
    return {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and value.grad_fn is not None
    }


def as_dynamic_shapes(model: nn.Module, inputs: Inputs, dynamic_shapes: Any) -> Any:
    """What torch.export takes: of `"batch"`, that dimension 0 of every tensor input is dynamic.

    Of `"fixed"`, that none is; None leaves it to who exports.

    Raises:
        TraceError: if it is another word, or the model does not take the inputs.
    """
    if not isinstance(dynamic_shapes, str):
        return dynamic_shapes
    if dynamic_shapes not in ("batch", "fixed"):
        raise TraceError(
            f"dynamic_shapes={dynamic_shapes!r} is not known",
            hint='pass "batch", "fixed", or the structure torch.export.export takes',
        )
    return first_axes(
        model, inputs, torch.export.Dim.DYNAMIC if dynamic_shapes == "batch" else None
    )


def first_axes(model: nn.Module, inputs: Inputs, size: Any) -> Any:
    """What torch.export takes for inputs whose first axis is of a given size.

    Args:
        model: whose forward names its arguments.
        inputs: example inputs.
        size: what `torch.export.Dim` makes, or None for that of the example.

    Raises:
        TraceError: if the model does not take the inputs.
    """

    def dynamic(leaf: Any) -> Any:
        has_batch = isinstance(leaf, torch.Tensor) and leaf.ndim > 0
        return {0: size} if has_batch and size is not None else None

    try:
        args, kwargs = plain(inputs)
        bound = inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        raise does_not_run(error, model, inputs) from error
    return {name: pytree.tree_map(dynamic, value) for name, value in bound.arguments.items()}


def _export(
    model: nn.Module, inputs: Inputs, dynamic_shapes: Any
) -> tuple[torch.export.ExportedProgram, Outputs | None]:
    """Export a copy of a model, and say how its outputs were read."""
    work = copy_of(model, shared=True).eval()
    given, found = exportable(work, inputs)
    try:
        exported = export(work, given.args, given.kwargs, dynamic_shapes)
    except Exception as error:
        raise cannot_be_exported(error, _without_gradients(model, inputs)) from error
    return exported, found[-1] if found else None


def _without_gradients(model: nn.Module, inputs: Inputs) -> Exception | None:
    """Run a model that could not be exported; returns what it raises without gradients, if so.

    Raises:
        TraceError: if it does not run where gradients are computed, either.
    """
    try:
        with torch.no_grad():
            copy_of(model).eval()(*inputs.args, **inputs.kwargs)
    except Exception as error:
        try:
            with torch.enable_grad():
                copy_of(model).eval()(*inputs.args, **inputs.kwargs)
        except Exception as running:
            raise does_not_run(running, model, inputs) from running
        return error
    return None


def exportable(model: nn.Module, inputs: Inputs) -> tuple[Inputs, list[Outputs]]:
    """Make a model's forward take and return what torch.export knows, see `frontends.objects`.

    Args:
        model: a copy that is used for nothing else.
        inputs: example inputs.

    Returns:
        The inputs to export it on, and a list to which every call adds how its outputs were read.
    """
    found: list[Outputs] = []
    if isinstance(model, fx.GraphModule):
        return inputs, found
    forward = model.forward

    @functools.wraps(forward)
    def plain_forward(*args: Any, **kwargs: Any) -> Any:
        own = restore(inputs, Inputs(args, kwargs))
        outputs = read_outputs(forward(*own.args, **own.kwargs), forward)
        found.append(outputs)
        return outputs.values

    model.forward = plain_forward
    return plain(inputs), found
