"""A graph with everything that can be said about it."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from autoprune.analysis.cost import CostModel
from autoprune.analysis.dependence import effective_weights, producers
from autoprune.analysis.experiments.probing import NOT_PROBED, Probing, probe_calls
from autoprune.analysis.groups import Groups, find_groups
from autoprune.analysis.typing import TypedGraph, infer, nodes_without_rule
from autoprune.frameworks.network import Network
from autoprune.ir.graph import Graph
from autoprune.ir.group import Group
from autoprune.passes.patterns import check_patterns, first_match
from autoprune.passes.pruning.request import Options
from autoprune.report.progress import say
from autoprune.report.step_trace import costs_text, show, types_text


@dataclass(frozen=True)
class Analysis:
    """A graph with everything that can be said about it.

    Attributes:
        seconds: processor time the analysis took, without reading the model and probing.
        probing: what experiments on operators without a rule came to.
    """

    typed: TypedGraph
    found: Groups
    costs: CostModel
    seconds: float
    probing: Probing = NOT_PROBED

    @property
    def graph(self) -> Graph:
        """The graph that was analysed."""
        return self.typed.graph

    @property
    def groups(self) -> dict[int, Group]:
        """Groups by leaf."""
        return {g.leaf.uid: g for g in self.found.groups}

    @cached_property
    def effective(self) -> tuple[str, ...]:
        """The values that layers read as their weights; see `effective_weights`."""
        return effective_weights(self.graph)

    @property
    def names(self) -> dict[int, str]:
        """Group names by leaf."""
        return {g.leaf.uid: g.name for g in self.found.groups}

    @cached_property
    def spelled(self) -> dict[str, tuple[str, ...]]:
        """By value name, what users may call a parameter.

        Exporters of ONNX files often make weights' names up (`onnx::MatMul_42`), but say which
        module a node is from; there, the modules that read a parameter stand for it, too.
        """
        spelled = {p.value.name: p.names for p in self.graph.parameters}
        for node in self.graph.nodes:
            if node.op.startswith("onnx.") and node.module:
                for value in node.inputs:
                    if value.name in spelled and node.module[-1] not in spelled[value.name]:
                        spelled[value.name] += (node.module[-1],)
        return spelled

    @cached_property
    def producers(self) -> dict[int, frozenset[str]]:
        """By leaf, every name of the parameters that make its units."""
        return {
            uid: frozenset(n for parameter in made_by for n in self.spelled[parameter])
            for uid, made_by in producers(self.typed).items()
        }

    def producing(self, patterns: Iterable[str], group: Group) -> str | None:
        """The first pattern that matches a group, or one of the parameters that make its units."""
        return first_match(patterns, self.producers.get(group.leaf.uid, ()), group.name)

    def check_names(self, patterns: Iterable[str], keyword: str) -> None:
        """Refuse names that nothing has; errors as `check_patterns`."""
        names = [n for spelled in self.spelled.values() for n in spelled]
        check_patterns(patterns, names, keyword, [g.name for g in self.found.groups])


def analyse_network(network: Network, options: Options) -> Analysis:
    """As `analyse`, with rules from experiments where the options ask for them."""
    return analyse(network.graph, options, probed(network) if options.probe else NOT_PROBED)


def probed(network: Network) -> Probing:
    """Rules for the calls of operators that have none."""
    names = {node.name for node in nodes_without_rule(network.graph)}
    return probe_calls(network.sample_calls(names) if names else {}, network.graph)


def analyse(graph: Graph, options: Options, probing: Probing = NOT_PROBED) -> Analysis:
    """Find the groups of a graph, with rules of probing; errors as `infer`."""
    say("finding groups")
    start = time.thread_time()
    with _no_garbage_collection():
        typed = infer(graph, strict=options.strict, rules=probing.rules)
        show(options.trace, "axis types", lambda: types_text(typed))
        found = find_groups(typed)
        show(options.trace, "groups", lambda: found)
        costs = CostModel(typed, frozenset(g.leaf.uid for g in found.groups))
        show(options.trace, "costs", lambda: costs_text(found, costs))
    return Analysis(typed, found, costs, time.thread_time() - start, probing)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """The analysis makes no cycles, and one pass over all of torch takes longer than it does."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
