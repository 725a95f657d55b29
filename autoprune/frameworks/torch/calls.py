"""Single calls of a traced torch model as samples to experiment on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from autoprune.analysis.experiments.experiment import Array, Runner, Sample, concrete, outputs_of
from autoprune.errors import RuleError
from autoprune.frameworks.torch.autocast import Interpreter
from autoprune.frameworks.torch.norms import rescaled_norm
from autoprune.frameworks.torch.objects import Inputs, input_leaves
from autoprune.frameworks.torch.trace import Traced
from autoprune.ir.graph import Argument, Node, Value
from autoprune.ops.views import Resized

Tensors = Mapping[str, torch.Tensor]


def sample_calls(
    traced: Traced, names: Collection[str], inputs: Inputs | None = None
) -> dict[str, Sample | RuleError]:
    """The calls of the given nodes, on the operands that running the graph gives them.

    Args:
        traced: the traced model.
        names: of nodes.
        inputs: arguments of the forward; by default the example inputs.

    Returns:
        By node name, the sample, or why there can be none: the call draws random numbers, writes
        to its arguments, or has outputs whose shapes depend on data.
    """
    given = traced.inputs if inputs is None else inputs
    capture = _Capture(traced, names)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        capture.run(*(_copied(leaf) for leaf in input_leaves(given)))
    return capture.samples


class _Capture(Interpreter):
    """Runs a graph and makes samples of some of its calls on the way."""

    def __init__(self, traced: Traced, names: Collection[str]) -> None:
        super().__init__(traced.module)
        self.nodes = {node.name: node for node in traced.graph.nodes if node.name in names}
        self.constants = frozenset(p.value.name for p in traced.graph.parameters)
        self.samples: dict[str, Sample | RuleError] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.name in self.nodes:
            try:
                self.samples[n.name] = self._sample(n, self.nodes[n.name])
            except RuleError as error:
                self.samples[n.name] = error
        return super().run_node(n)

    def _sample(self, n: fx.Node, node: Node) -> Sample:
        target = _pure(n.target, node)
        node = concrete(node)
        normal = n.normalized_arguments(self.module, normalize_to_only_use_kwargs=True)
        if normal is None:
            raise RuleError("its arguments have no names", where=str(node))
        if any(value.dtype == "int" for value in node.outputs):
            raise RuleError("it returns numbers", where=str(node))
        tensors: dict[str, torch.Tensor] = {}
        for name, argument in node.arguments.items():
            self._collect(normal.kwargs[name], argument, tensors)
        missing = [v for v in node.inputs if v.name not in tensors]
        if missing:
            raise RuleError(f"{missing[0]} is no tensor", where=str(node))
        raw = {name: _plain(value) for name, value in normal.kwargs.items()}
        device = next((t.device for t in tensors.values()), torch.device("cpu"))
        run = _runner(target, node, raw, device)
        sample = _in_double(node, tensors, run)
        return replace(
            sample,
            constants=self.constants & tensors.keys(),
            shares=any(r.alias_info is not None for r in target._schema.returns),
        )

    def _collect(self, raw: Any, argument: Argument, found: dict[str, torch.Tensor]) -> None:
        if isinstance(argument, Value) and isinstance(raw, fx.Node):
            value = self.env[raw]
            if isinstance(value, torch.Tensor):
                found[argument.name] = value
        elif isinstance(argument, tuple) and isinstance(raw, list | tuple):
            for r, a in zip(raw, argument, strict=True):
                self._collect(r, a, found)


def _pure(target: Any, node: Node) -> torch._ops.OpOverload[..., Any]:
    if not isinstance(target, torch._ops.OpOverload):
        raise RuleError("it is no operator of torch.ops", where=str(node))
    if target._schema.is_mutable:
        raise RuleError("it writes to its arguments", where=str(node))
    if torch.Tag.nondeterministic_seeded in target.tags:
        raise RuleError("it draws random numbers", where=str(node))
    if torch.Tag.dynamic_output_shape in target.tags:
        raise RuleError("the shapes of its outputs depend on data", where=str(node))
    return target


def _plain(raw: Any) -> Any:
    """A copy of an argument without fx's immutable lists."""
    return list(raw) if isinstance(raw, list) else raw


def _in_double(node: Node, tensors: Tensors, run: Runner) -> Sample:
    """The sample in float64 where the operator takes it, otherwise as it is."""
    exact = {name: _array(tensor, double=True) for name, tensor in tensors.items()}
    sample = Sample(node, exact, run)
    try:
        outputs_of(sample, exact)
    except RuleError:
        given = {name: _array(tensor, double=False) for name, tensor in tensors.items()}
        return Sample(node, given, run)
    return sample


def _array(tensor: torch.Tensor, *, double: bool) -> Array:
    tensor = tensor.detach().cpu()
    if tensor.is_complex():
        tensor = tensor.to(torch.complex128) if double else tensor
    elif tensor.is_floating_point():
        half = tensor.dtype in (torch.float16, torch.bfloat16)
        tensor = tensor.double() if double else tensor.float() if half else tensor
    return np.array(tensor.resolve_conj().resolve_neg().numpy())


def _runner(
    target: torch._ops.OpOverload[..., Any],
    node: Node,
    raw: Mapping[str, Any],
    device: torch.device,
) -> Runner:
    """Calls `target` by schema; arguments that are as traced are passed as the graph wrote them."""
    schema = target._schema.arguments

    def tensors(argument: Any) -> Any:
        if isinstance(argument, np.ndarray):
            return torch.from_numpy(argument).to(device)
        if isinstance(argument, list):
            return [tensors(part) for part in argument]
        return argument

    def settled(name: str, argument: Any) -> Any:
        traced = node.arguments.get(name)
        unchanged = name in raw and not _holds_arrays(argument) and _as_tuple(argument) == traced
        if unchanged and not _holds_nodes(raw[name]):
            return raw[name]
        return tensors(argument)

    def run(arguments: Mapping[str, Any], call: Resized) -> tuple[Array, ...]:
        with torch.no_grad():
            given = {name: settled(name, a) for name, a in arguments.items()}
            if call.op is not None:
                result = find_overload(call.op)(*given.values())
            elif call.share != 1.0:
                result = rescaled_norm(target)(**given, share=call.share)
            else:
                named = [(s.name, s.kwarg_only, _spelling(s.name, given)) for s in schema]
                result = target(
                    *(given[key] for _, only, key in named if not only and key in given),
                    **{name: given[key] for name, only, key in named if only and key in given},
                )
        leaves = [v for v in pytree.tree_leaves(result) if isinstance(v, torch.Tensor)]
        return tuple(_result(leaf) for leaf in leaves)

    return run


def _result(tensor: torch.Tensor) -> Array:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    return np.array(tensor.detach().cpu().resolve_conj().resolve_neg().numpy())


def _spelling(name: str, given: Mapping[str, Any]) -> str:
    """Normalized arguments call `self` `input`, unless an argument has that name already."""
    return "input" if name == "self" and "self" not in given else name


def _holds_arrays(argument: Any) -> bool:
    if isinstance(argument, list):
        return any(map(_holds_arrays, argument))
    return isinstance(argument, np.ndarray)


def _holds_nodes(raw: Any) -> bool:
    return any(isinstance(leaf, fx.Node) for leaf in pytree.tree_leaves(raw))


def _as_tuple(argument: Any) -> Any:
    return tuple(_as_tuple(part) for part in argument) if isinstance(argument, list) else argument


def _copied(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def find_overload(op: str) -> Callable[..., Any]:
    """The operator of a name such as `aten.add.Tensor`."""
    namespace, packet, overload = op.split(".")
    found: Callable[..., Any] = getattr(getattr(getattr(torch.ops, namespace), packet), overload)
    return found
