"""The law: a cut network computes what the network computes with the cut units zeroed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch._C import _functorch as functorch
from torch.utils import _pytree as pytree

from autoprune.analysis.folding import spared_parameters
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import NotEqualError, TraceError, first_line
from autoprune.frameworks.comparison import array_difference, rounding
from autoprune.frameworks.torch.autocast import Interpreter, left_as_found, switched_off
from autoprune.frameworks.torch.causes import does_not_run, is_mismatch, summary, user_line
from autoprune.frameworks.torch.cut import (
    GraphNetwork,
    cut_graph,
    cut_values,
    with_tensors,
    zeroed_parameters,
)
from autoprune.frameworks.torch.folding import folded_biases
from autoprune.frameworks.torch.objects import (
    Inputs,
    input_leaves,
    map_tensors,
    plain,
    read_outputs,
)
from autoprune.frameworks.torch.trace import Traced, copy_of
from autoprune.ir.graph import Graph
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept


def run(
    model: nn.Module,
    inputs: Inputs,
    state: Mapping[str, torch.Tensor] | None = None,
    *,
    seed: int = 0,
) -> Any:
    """Outputs on the (probing) example inputs, without gradients, and with chance of its own."""
    inputs = probing(inputs)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), _transforms_left():
        torch.manual_seed(seed)
        if isinstance(model, fx.GraphModule):
            # An exported graph may write to its buffers; it writes to copies here.
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            new = {**buffers, **(state or {})}
            with left_as_found(model.graph):
                returned = torch.func.functional_call(model, new, *plain(inputs))
        else:
            returned = model(*inputs.args, **inputs.kwargs)
        return read_outputs(returned, model.forward).values


@contextmanager
def _transforms_left() -> Iterator[None]:
    """Leave what an exported graph has entered of `torch.func` if it fails in between."""
    depth = functorch.get_dynamic_layer_stack_depth()
    try:
        yield
    except Exception:
        functorch.pop_dynamic_layer_stack_and_undo_to_depth(depth)
        raise


def probing(inputs: Inputs) -> Inputs:
    """A copy of the example inputs in which tensors of zeros are drawn at random.

    Zeros are the usual placeholder, and would hide every mistake in the first layers.
    """

    def probe(v: torch.Tensor) -> torch.Tensor:
        if v.is_floating_point() and not v.any():
            return torch.randn(v.shape, generator=torch.Generator().manual_seed(0)).to(v)
        return v.clone()

    return map_tensors(probe, inputs)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every module's own mode is restored."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        model.train(modes[0][1])  # an exported graph switches its operators here
        for module, training in modes:
            module.training = training


def difference(a: Any, b: Any) -> float:
    """Largest relative difference between two structures of tensors; inf if they do not match.

    Each pair of tensors is compared relative to the largest magnitude that differs in it; equal
    infinities and NaNs in the same places count as equal.
    """
    left, right = _tensors(a), _tensors(b)
    if len(left) != len(right):
        return float("inf")
    return max((_tensor_difference(x, y) for x, y in zip(left, right, strict=True)), default=0.0)


def _tensors(structure: Any) -> list[torch.Tensor]:
    """The tensors in a structure, sparse ones as dense ones, which all operators take."""
    found = [v for v in pytree.tree_leaves(structure) if isinstance(v, torch.Tensor)]
    return [v if v.layout in (torch.strided, torch.jagged) else v.to_dense() for v in found]


def _tensor_difference(x: torch.Tensor, y: torch.Tensor) -> float:
    if x.dtype != y.dtype:
        return float("inf")
    if x.dtype.is_floating_point:
        x, y = x.double(), y.double()  # numpy knows no bfloat16
    return array_difference(x.numpy(force=True), y.numpy(force=True))


def tolerance(outputs: Any) -> float:
    """The rounding level of the least precise floating-point output."""
    return rounding(str(v.dtype).removeprefix("torch.") for v in _tensors(outputs))


def new_biases(
    traced: Traced, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> dict[str, torch.Tensor]:
    """The biases, uncut, that take up the constants which removed units leave."""
    inputs = input_leaves(probing(traced.inputs))
    return folded_biases(traced, typed, groups, kept, inputs)


def cut_error(
    traced: Traced, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> tuple[float, GraphNetwork]:
    """How far the cut network is from the zeroed one, and the cut network.

    Raises:
        NotEqualError: if every group in `kept` is exact and the difference exceeds rounding, or
            the zeroed network differs from itself.
    """
    state = zeroed_parameters(traced, typed, kept, spared_parameters(typed, groups, kept))
    zeroed = traced.wanted.of(_run_zeroed(traced, state))
    exact = all(groups[uid].guarantee.exact for uid in kept)
    if exact and kept:
        _check_repeatable(traced, state, zeroed)
        _check_defined(traced, zeroed)
    biases = new_biases(traced, typed, groups, kept)
    folded = dataclasses.replace(traced, module=with_tensors(traced.module, biases))
    cut = cut_graph(folded, typed, kept)
    try:
        error = difference(zeroed, traced.wanted.of(run(cut, traced.inputs)))
    except Exception as failure:
        raise NotEqualError(
            f"the cut network does not run: {failure}",
            where=first_difference(traced, typed, kept, state, cut),
            hint="please report the operator named above; `ignore=` its layer meanwhile",
        ) from failure
    unexplained = error if error > precision(typed.graph, zeroed) else 0.0
    if exact and not unexplained:
        full = _error_without_autocast(traced, state, cut)
        unexplained = full if full > tolerance(zeroed) else 0.0
    if exact and unexplained:
        raise NotEqualError(
            f"the cut network differs from the zeroed one by {unexplained:.2g}, which rounding "
            "does not explain",
            where=first_difference(traced, typed, kept, state, cut),
            hint="please report the operator named above; `ignore=` its layer meanwhile",
        )
    return error, cut


def _run_zeroed(traced: Traced, state: Mapping[str, torch.Tensor]) -> Any:
    """Outputs of the network with other values of some parameters."""
    try:
        return run(traced.module, traced.inputs, state)
    except Exception as failure:
        try:
            run(traced.module, traced.inputs)
        except Exception as error:
            if is_mismatch(error):  # of which the exporter takes no notice
                raise does_not_run(error, traced.module, traced.inputs) from error
            raise TraceError(
                f"the exported graph does not run: {summary(error)}",
                hint="the forward may depend on values of tensors that the export froze",
            ) from error
        raise NotEqualError(
            f"the network does not run with units set to zero: {summary(failure)}",
            where=user_line(failure),
            hint="an operator computes sizes from values that became zero; `ignore=` its layer",
        ) from failure


def check_unchanged(traced: Traced, small: nn.Module) -> None:
    """Check that a network computes what the original does.

    Raises:
        NotEqualError: if it does not.
    """
    expected = traced.wanted.of(run(traced.module, traced.inputs))
    error = difference(expected, traced.wanted.of(run(copy_of(small).eval(), traced.inputs)))
    if error > tolerance(expected):
        raise NotEqualError(
            f"without what is dead the network differs by {error:.2g} from the original",
            hint="please report this; `ignore=` the groups that lost units meanwhile",
        )


def precision(graph: Graph, outputs: Any) -> float:
    """The rounding level of the least precise numbers that outputs are computed in."""
    computed = {v.dtype for node in graph.nodes for v in node.outputs}
    return max(rounding(computed), tolerance(outputs))


def _error_without_autocast(
    traced: Traced, state: Mapping[str, torch.Tensor], cut: GraphNetwork
) -> float:
    """How far the cut network is from the zeroed one in the precision of its parameters.

    Half precision would hide small mistakes. It is 0 if there is no autocast, or no doing without.
    """
    with switched_off(traced.module, cut) as switched:
        if not switched:
            return 0.0
        try:
            zeroed = traced.wanted.of(run(traced.module, traced.inputs, state))
        except RuntimeError:  # types of numbers that only meet under autocast
            return 0.0
        return difference(zeroed, traced.wanted.of(run(cut, traced.inputs)))


class _Watcher(Interpreter):
    """Runs a graph and hands every result to a callback, which may stop the run."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        self.values[n.name] = pytree.tree_map(
            lambda v: v.clone() if isinstance(v, torch.Tensor) else v, result
        )
        return result


def _check_defined(traced: Traced, zeroed: Any) -> None:
    """Refuse networks whose outputs are no numbers.

    Raises:
        NotEqualError: if they are some until units are set to zero.
        TraceError: if none is on the example inputs.
    """
    if _undefined(zeroed) and not _undefined(traced.wanted.of(run(traced.module, traced.inputs))):
        raise NotEqualError(
            "once the removed units are zero, the network computes what is not a number",
            hint="`ignore=` the layers before the operator that is not defined for zeros",
        )
    numbers = [v for v in _tensors(zeroed) if v.is_floating_point() and v.numel()]
    if numbers and not any(bool(v.isfinite().any()) for v in numbers):
        raise TraceError(
            "no output is a finite number on the example inputs, so nothing can be compared",
            hint="give inputs without NaN and infinities",
        )


def _undefined(outputs: Any) -> bool:
    return any(bool(v.isnan().any()) for v in _tensors(outputs) if v.is_floating_point())


def _check_repeatable(traced: Traced, state: Mapping[str, torch.Tensor], outputs: Any) -> None:
    """Raise NotEqualError if a network computes other outputs when other numbers are drawn."""
    gap = difference(outputs, traced.wanted.of(run(traced.module, traced.inputs, state, seed=1)))
    if gap > tolerance(outputs):
        raise NotEqualError(
            "the network draws random numbers in evaluation mode, so that no cut of it can be "
            "shown to be exact",
            where=_first_draw(traced),
            hint="pass what is drawn as an input, or draw in training mode only",
        )


def _first_draw(traced: Traced) -> str | None:
    """The first call whose result depends on the random seed."""
    seen = []
    for seed in (0, 1):
        watcher = _Watcher(traced.module)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            watcher.run(*input_leaves(probing(traced.inputs)))
        seen.append(watcher.values)
    for node in traced.graph.nodes:
        if difference(*(values.get(node.name) for values in seen)) > 0:
            return f"%{node.name} = {node.op}, {node.source or 'unknown source'}"
    return None


def first_difference(
    traced: Traced,
    typed: TypedGraph,
    kept: Kept,
    state: Mapping[str, torch.Tensor],
    cut: fx.GraphModule,
) -> str:
    """The first value of the cut network that is not the kept part of the zeroed one's."""
    reference = _Watcher(traced.module)
    originals = {name: traced.module.get_parameter(name).detach().clone() for name in state}
    try:
        with torch.no_grad():
            for name, tensor in state.items():
                traced.module.get_parameter(name).copy_(tensor)
            reference.run(*input_leaves(probing(traced.inputs)))
    finally:
        with torch.no_grad():
            for name, tensor in originals.items():
                traced.module.get_parameter(name).copy_(tensor)
    watcher = _Watcher(cut)
    failure = ""
    try:
        with torch.no_grad():
            watcher.run(*input_leaves(probing(traced.inputs)))
    except Exception as error:
        failure = first_line(error)
    for node in typed.graph.nodes:
        for value in node.outputs:
            expected, got = reference.values.get(value.name), watcher.values.get(value.name)
            place = f"%{value.name} = {node.op}, {node.source or 'unknown source'}"
            if not isinstance(expected, torch.Tensor):
                continue
            if got is None and node.name not in watcher.values:
                return f"{place}: {failure}"
            if not isinstance(got, torch.Tensor):
                continue
            expected = cut_values(expected, typed.types[value.name], kept)
            if difference(expected, got) > tolerance(expected):
                return place
    return "the outputs themselves"
