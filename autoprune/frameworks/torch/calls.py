"""Single calls of a traced torch model as samples to experiment on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.utils import _pytree as pytree

from autoprune.analysis.experiments.experiment import Array, Runner, Sample, concrete, outputs_of
from autoprune.errors import RuleError
from autoprune.frameworks.torch.arrays import array_of, single
from autoprune.frameworks.torch.cut import find_overload, owned_tensors
from autoprune.frameworks.torch.equality import isolated
from autoprune.frameworks.torch.norms import RESCALED
from autoprune.frameworks.torch.objects import Inputs, input_leaves, map_tensors
from autoprune.frameworks.torch.runner import GraphRunner
from autoprune.frameworks.torch.trace import Traced
from autoprune.ir.graph import Node
from autoprune.ops.views import Resized


def sample_calls(
    traced: Traced, names: Collection[str], inputs: Inputs | None = None
) -> dict[str, Sample | RuleError]:
    """The calls of the given nodes, on the operands that running the graph gives them.

    Args:
        traced: the traced model.
        names: of nodes.
        inputs: arguments of the forward, which are not changed; by default the example inputs.

    Returns:
        By node name, the sample, or why there can be none: the call draws random numbers, writes
        to its arguments, or has outputs whose shapes depend on data.
    """
    runner = GraphRunner(traced.module, calls=names)
    with isolated(0):
        runner.run(*input_leaves(map_tensors(torch.Tensor.clone, inputs or traced.inputs)))
    owned = owned_tensors(traced)
    nodes = {node.name: node for node in traced.graph.nodes}
    samples: dict[str, Sample | RuleError] = {}
    for n in traced.module.graph.nodes:
        if n.name in names:
            try:
                read = {v.name for v in nodes[n.name].inputs} & owned.keys()
                operands = {name: array_of(owned[name]) for name in read}
                operands |= runner.operands[n.name]
                samples[n.name] = _sample(traced, n, nodes[n.name], operands)
            except RuleError as error:
                samples[n.name] = error
    return samples


def _sample(traced: Traced, n: fx.Node, node: Node, operands: Mapping[str, Array]) -> Sample:
    target = _pure(n.target, node)
    node = concrete(node)
    normal = n.normalized_arguments(traced.module, normalize_to_only_use_kwargs=True)
    if normal is None:
        raise RuleError("its arguments have no names", where=str(node))
    if any(value.dtype == "int" for value in node.outputs):
        raise RuleError("it returns numbers", where=str(node))
    missing = [v for v in node.inputs if v.name not in operands]
    if missing:
        raise RuleError(f"{missing[0]} is no tensor", where=str(node))
    given = {v.name: operands[v.name] for v in node.inputs}
    raw = {name: _plain(value) for name, value in normal.kwargs.items()}
    device = next((t.device for t in traced.module.parameters()), torch.device("cpu"))
    return replace(
        _in_double(node, given, _runner(target, node, raw, device)),
        constants=frozenset(given) & traced.graph.parameter_of.keys(),
        shares=any(r.alias_info is not None for r in target._schema.returns),
    )


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


def _in_double(node: Node, operands: Mapping[str, Array], run: Runner) -> Sample:
    """The sample in float64 where the operator takes it, otherwise as it is."""
    exact = {name: _widened(array, "f8", "c16") for name, array in operands.items()}
    sample = Sample(node, exact, run)
    try:
        outputs_of(sample, exact)
    except RuleError:
        given = {name: _widened(array, "f4", "c8") for name, array in operands.items()}
        return Sample(node, given, run)
    return sample


def _widened(array: Array, real: str, complex_: str) -> Array:
    """Numbers that are no integers in at least so many bits."""
    wide = {"f": real, "V": real, "c": complex_}.get(array.dtype.kind, array.dtype)
    return array.astype(wide if array.dtype.itemsize < np.dtype(wide).itemsize else array.dtype)


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
                result = RESCALED[target](**given, share=call.share)
            else:
                named = [(s.name, s.kwarg_only, _spelling(s.name, given)) for s in schema]
                result = target(
                    *(given[key] for _, only, key in named if not only and key in given),
                    **{name: given[key] for name, only, key in named if only and key in given},
                )
        leaves = [v for v in pytree.tree_leaves(result) if isinstance(v, torch.Tensor)]
        return tuple(single(leaf).copy() for leaf in leaves)

    return run


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
