"""The law: a cut network computes what the network computes with the cut units set to zero."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from autoprune.analysis.guarantees import spared_parameters
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import AutopruneError, NotEqualError, TraceError, first_line
from autoprune.frameworks.comparison import array_difference, difference, rounding, tolerance
from autoprune.frameworks.network import Array, Choice, Executable, Network, Values
from autoprune.ir.graph import Graph, Node
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept, cut_array
from autoprune.ops.rule import UNKNOWN, holds, is_number, writes_in_place
from autoprune.ops.views import Call
from autoprune.passes.pruning.folding import folded_biases
from autoprune.report.progress import say

HINT = "please report the operator named above; `ignore=` its layer meanwhile"

NOISE = 4.0
"""Times the rounding that a network shows of itself that a cut network may be off."""

LOUDEST = 1e-2
"""Noise never explains more than this."""


@dataclass(frozen=True)
class Proof:
    """A cut network, and how far it is from the zeroed one.

    Attributes:
        folded: names of the parameters that took up constants.
        network: what was cut, in which these have.
    """

    cut: Executable
    error: float
    folded: tuple[str, ...]
    network: Network


def prove(network: Network, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept) -> Proof:
    """Cut a network, and compare it with the zeroed one.

    Raises:
        NotEqualError: if every group in `kept` is exact and the difference exceeds rounding, or
            the zeroed network differs from itself.
        TraceError: if the network itself does not run, or computes no numbers.
    """
    exact = all(groups[uid].guarantee.exact for uid in kept)
    watch = _witnesses(typed)
    zeroed = zeroed_network(network, typed, groups, kept)
    inputs, computed = _run_zeroed(network, zeroed, watch)
    if exact and kept:
        _check_repeatable(network, zeroed, inputs, watch, computed)
        _check_defined(network, inputs, watch, computed)
    precisely = _precisely(zeroed, inputs) if exact and network.autocasts else None
    biases = folded_biases(network, zeroed, typed, groups, kept, inputs)
    del zeroed  # before there is another one
    folded = network.with_parameters(biases)
    cut = folded.cut(typed, kept)
    expected = {
        name: cut_array(value, typed.types[name], kept) if name in watch else value
        for name, value in computed.items()
    }
    try:
        error = difference(expected, cut.run(inputs, watch=watch))
    except AutopruneError as failure:
        raise NotEqualError(
            f"the cut network does not run: {_reason(failure)}",
            where=_first_difference(network, typed, groups, kept, cut, inputs),
            hint=HINT,
        ) from failure
    unexplained = error if error > max(tolerance(expected.values()), network.rounding) else 0.0
    if exact and unexplained:
        noise = zeroed_network(network, typed, groups, kept).noise(inputs, computed)
        unexplained = error if error > min(LOUDEST, NOISE * noise) else 0.0
    if precisely is not None and not unexplained:
        # Half precision would hide small mistakes.
        apart = difference(precisely, _precisely(cut, inputs))
        unexplained = apart if apart > tolerance(precisely.values()) else 0.0
    if exact and unexplained:
        raise NotEqualError(
            f"the cut network differs from the zeroed one by {unexplained:.2g}, which rounding "
            "does not explain",
            where=_first_difference(network, typed, groups, kept, cut, inputs),
            hint=HINT,
        )
    return Proof(cut, error, tuple(biases), folded)


def prove_choice(
    network: Network, choice: Choice, groups: Mapping[int, Group]
) -> tuple[Proof, float | None]:
    """As `prove`; and the error of all that was chosen, if some of it changes the function."""
    say("cutting the network, and comparing it with zeroing")
    exact = {uid: units for uid, units in choice.kept.items() if groups[uid].guarantee.exact}
    proof = prove(network, choice.typed, groups, exact)
    if len(exact) == len(choice.kept):
        return proof, None
    error = proof.error
    del proof  # before there is another one
    whole = prove(network, choice.typed, groups, choice.kept)
    return replace(whole, error=error), whole.error


def zeroed_network(
    network: Network, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> Executable:
    """The network with the units set to zero that do not stay, in what makes them."""
    return network.zeroed(typed, kept, spared_parameters(typed, [groups[u] for u in kept]))


def check_unchanged(network: Network, small: Executable) -> None:
    """Check that a network computes what the original does; NotEqualError if it does not."""
    inputs, expected = _run_zeroed(network, network, ())
    error = difference(expected, small.run(inputs))
    if error > tolerance(expected.values()):
        if error <= min(LOUDEST, NOISE * network.noise(inputs, expected)):
            return
        raise NotEqualError(
            f"without what is dead the network differs by {error:.2g} from the original",
            hint="please report this; `ignore=` the groups that lost units meanwhile",
        )


def _witnesses(typed: TypedGraph) -> list[str]:
    """What goes into saturating operators at the end of a graph; to be compared like outputs.

    What only moves it, or computes with integers that came of it, may follow. Values that are
    written to after they were made are none: they are compared as they were made.
    """
    written = _written_to(typed)
    made_by = {v.name: node for node in typed.graph.nodes for v in node.outputs}
    found: list[str] = []
    todo = [v.name for v in typed.graph.required]
    while todo:
        node = made_by.get(todo.pop())
        if node is None or not node.tensors:
            continue
        operator, call, value = typed.operator_of(node), Call(node, typed.types), node.tensors[0]
        hides = holds(operator.saturates, call)
        if value.name not in made_by or value.name in found:
            continue
        if hides and value.name not in written:
            found.append(value.name)
        if hides or operator.selects(call) or not is_number(value):
            todo.append(value.name)
    return found


def _written_to(typed: TypedGraph) -> frozenset[str]:
    """Values that may share memory with one that an in-place call writes to."""
    nodes = typed.graph.nodes
    writing = [node for node in nodes if node.tensors and writes_in_place(node.op)]
    if not writing:
        return frozenset()
    from networkx.utils import UnionFind  # which comes with torch; ONNX models write nowhere

    memory = UnionFind(v.name for node in nodes for v in (*node.inputs, *node.outputs))
    for node in nodes:
        operator = typed.operator_of(node)
        moves = operator.aliases or operator.selects(Call(node, typed.types))
        if moves or operator is UNKNOWN or writes_in_place(node.op):
            memory.union(*(v.name for v in (*node.tensors, *node.outputs)))
    roots = {memory[node.tensors[0].name] for node in writing}
    return frozenset(name for name in memory if memory[name] in roots)


def _run_zeroed(network: Network, zeroed: Executable, watch: Collection[str]) -> tuple[Any, Values]:
    """The first inputs that a network runs on, and what it computes on them."""
    failure: AutopruneError | None = None
    for inputs in network.probes():
        try:
            return inputs, zeroed.run(inputs, watch=watch)
        except AutopruneError as error:
            failure = error
    assert failure is not None
    network.run(inputs)  # raises if zeros are not to blame
    raise NotEqualError(
        f"the network does not run with units set to zero: {_reason(failure)}",
        where=failure.where,
        hint="an operator computes sizes from values that became zero; `ignore=` its layer",
    ) from failure


def _reason(failure: BaseException) -> str:
    """What the framework said."""
    return first_line(failure.__cause__ or failure)


def _precisely(runs: Executable, inputs: Any) -> Values | None:
    """What comes out in the precision of the parameters; None if it does not run so."""
    with suppress(AutopruneError):  # types of numbers that only meet under autocast
        return runs.run(inputs, precise=True)
    return None


def _check_repeatable(
    network: Network, zeroed: Executable, inputs: Any, watch: Collection[str], computed: Values
) -> None:
    """Raise NotEqualError if a network computes other outputs when other numbers are drawn."""
    again = zeroed.run(inputs, watch=watch, seed=1)
    if difference(computed, again) > tolerance(computed.values()):
        names = _all_names(network.graph)
        first, second = (network.run(inputs, watch=names, seed=seed) for seed in (0, 1))
        raise NotEqualError(
            "the network draws random numbers in evaluation mode, so that no cut of it can be "
            "shown to be exact",
            where=next(_different(network.graph, first, second), None),
            hint="pass what is drawn as an input, or draw in training mode only",
        )


def _check_defined(network: Network, inputs: Any, watch: Collection[str], zeroed: Values) -> None:
    """Refuse networks whose outputs are no numbers.

    Raises:
        NotEqualError: if they are some until units are set to zero.
        TraceError: if none is on the example inputs.
    """
    numbers = _floats(zeroed)
    if any(np.isnan(v).any() for v in numbers):
        original = network.run(inputs, watch=watch)
        if not any(np.isnan(v).any() for v in _floats(original)):
            raise NotEqualError(
                "once the removed units are zero, the network computes what is not a number",
                hint="`ignore=` the layers before the operator that is not defined for zeros",
            )
    if numbers and not any(np.isfinite(v).any() for v in numbers):
        raise TraceError(
            "no output is a finite number on the example inputs, so nothing can be compared",
            hint="give inputs without NaN and infinities",
        )


def _floats(values: Values) -> list[Array]:
    arrays = [v for v in values.values() if isinstance(v, np.ndarray) and v.size]
    return [v for v in arrays if rounding([v.dtype.name])]


def _all_names(graph: Graph) -> list[str]:
    return [v.name for node in graph.nodes for v in node.outputs]


def _different(graph: Graph, expected: Values, got: Values) -> Iterator[str]:
    """The places, in order, where two runs computed other values."""
    for node in graph.nodes:
        for value in node.outputs:
            before, after = expected.get(value.name), got.get(value.name)
            if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
                continue
            if array_difference(before, after) > tolerance([before]):
                yield _place(node, value.name)


def _place(node: Node, name: str) -> str:
    return f"%{name} = {node.op}, {node.source or 'unknown source'}"


def _first_difference(
    network: Network,
    typed: TypedGraph,
    groups: Mapping[int, Group],
    kept: Kept,
    cut: Executable,
    inputs: Any,
) -> str:
    """The first value of the cut network that is not the kept part of the zeroed one's."""
    names = _all_names(typed.graph)
    zeroed = zeroed_network(network, typed, groups, kept).run(inputs, watch=names)
    try:
        got = cut.run(inputs, watch=names)
    except AutopruneError as failure:
        reason, nodes = _reason(failure), {node.name: node for node in typed.graph.nodes}
        failed = nodes.get(failure.where or "")
        return f"{_place(failed, failed.name)}: {reason}" if failed else reason
    expected = {
        name: cut_array(value, typed.types[name], kept)
        for name, value in zeroed.items()
        if isinstance(value, np.ndarray) and name in typed.types
    }
    return next(_different(typed.graph, expected, got), "the outputs themselves")
