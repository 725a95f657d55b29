"""Prove or refute the rule of an operator by numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from autoprune.analysis.experiments.conformance import (
    Examined,
    Fault,
    examined,
    faults,
    free_leaves,
    places,
)
from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.experiments.probing import probe
from autoprune.analysis.experiments.traits import trait_faults
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import AutopruneError, RuleError
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.trace import trace
from autoprune.ops.custom import operator_name
from autoprune.ops.rule import Operator, find
from autoprune.testing.networks import check_network

OUTPUTS = 3
"""Random sums over each output of the operator that the network around it returns."""


@dataclass(frozen=True)
class AxisRow:
    """What was found about one axis of one operand.

    Attributes:
        operand: name of the argument.
        dim: the dimension.
        size: its size in the example.
        verdict: `free`, `pinned` or `wrong`.
        text: what is wrong, why it is pinned, or the axis's type.
    """

    operand: str
    dim: int
    size: int
    verdict: str
    text: str


@dataclass(frozen=True)
class RuleReport:
    """The result of checking the rule of an operator.

    Attributes:
        op: the operator.
        rows: one for each axis of each operand that has more than one position.
        faults: what is wrong with the rule as a whole.
        hints: axes that the rule pins and that seem to be free.
        proposal: the rule that experiments suggest, as one would write it, or empty.
    """

    op: str
    rows: tuple[AxisRow, ...]
    faults: tuple[str, ...]
    hints: tuple[str, ...]
    proposal: str

    @property
    def ok(self) -> bool:
        """Whether nothing the rule claims was refuted."""
        return not self.faults and all(row.verdict != "wrong" for row in self.rows)

    def __str__(self) -> str:
        head = f"{self.op}: {'right' if self.ok else 'wrong'}"
        lines = [
            f"  {row.operand} dim {row.dim} [{row.size}]  {row.verdict:<6}  {row.text}"
            for row in self.rows
        ]
        lines += [f"  {fault}" for fault in self.faults]
        lines += [f"  hint: {hint}" for hint in self.hints]
        if self.proposal and (self.hints or not self.ok):
            lines.append(f"  experiments suggest {self.proposal}")
        return "\n".join([head, *lines])


def check_rule(op: Any, *args: Any, **kwargs: Any) -> RuleReport:
    """Prove or refute the rule of an operator on an example call.

    Every axis that the rule leaves free is cut in many ways, in the operator alone and in a small
    network around it whose weights produce and read its tensors: cutting must equal zeroing, and
    what the rule says of zeros must hold.

    Args:
        op: the operator (or a function that calls it and nothing else that has a rule).
        *args: arguments of the call. Tensors should have axes of several, different sizes, and
            values of the usual range.
        **kwargs: its keyword arguments.

    Returns:
        The report, which prints as a table. It also tells axes that are pinned needlessly.

    Raises:
        RuleError: if the operator has no rule or the rule is wrong; which axis of which operand
            is, and how, is said by the message.
        TraceError: if the call cannot be exported.
    """
    report = examine_rule(op, *args, **kwargs)
    if not report.ok:
        raise RuleError(
            f"the rule of {report}",
            hint="correct the axis equations, zero=, or resize=; an axis may always be pinned",
        )
    return report


def examine_rule(op: Any, *args: Any, **kwargs: Any) -> RuleReport:
    """The report of `check_rule`, also where the rule is wrong.

    Raises:
        RuleError: if the operator has no rule.
        TraceError: if the call cannot be exported.
    """
    call = _Call(_callable(op), args, kwargs)
    sample = _sample(call)
    operator = find(sample.node.op)
    proposal, suggested = _proposal(sample)
    if operator is None:
        raise RuleError(
            f"operator {sample.node.op} has no rule",
            hint=f"experiments suggest {proposal}" if proposal else None,
        )
    try:
        rule = examined(sample, operator)
    except AutopruneError as error:
        return RuleReport(sample.node.op, (), (f"the rule fails: {error.what}",), (), proposal)
    found = faults(rule)
    general = [fault.text for fault in found if not fault.places]
    if not found:
        general = trait_faults(rule) + _network_faults(call)
    free = _free(rule.typed)
    missed = sorted(_free(examined(sample, suggested).typed) - free) if suggested else []
    hints = [f"{sample.labels[name]} dim {dim} is pinned, and can be cut" for name, dim in missed]
    rows = tuple(_rows(rule, free, found))
    return RuleReport(sample.node.op, rows, tuple(general), tuple(hints), proposal)


def _callable(op: Any) -> Any:
    if not isinstance(op, str):
        return op
    found: Any = torch.ops
    for part in operator_name(op).split("."):
        found = getattr(found, part)
    return found


class _Call(nn.Module):
    """A module whose forward is one call; the tensors among its arguments are its inputs."""

    def __init__(self, op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        leaves, structure = pytree.tree_flatten((args, dict(kwargs)))
        given = [i for i, v in enumerate(leaves) if isinstance(v, torch.Tensor)]

        # A function, because modules are copied and operators cannot be.
        def apply(*tensors: torch.Tensor) -> Any:
            filled = list(leaves)
            for i, tensor in zip(given, tensors, strict=True):
                filled[i] = tensor
            positional, keywords = pytree.tree_unflatten(filled, structure)
            return op(*positional, **keywords)

        self.apply_to = apply
        self.op_name = operator_name(op)
        self.tensors = _in_double(self, tuple(leaves[i].detach() for i in given))

    def forward(self, *tensors: torch.Tensor) -> Any:
        return self.apply_to(*tensors)


def _in_double(call: nn.Module, tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """The tensors in float64 where the operator takes it, otherwise as they are."""
    exact = tuple(v.double() if v.is_floating_point() else v for v in tensors)
    try:
        call(*(v.clone() for v in exact))
    except Exception:
        return tensors
    return exact


def _sample(call: _Call) -> Sample:
    """The call of the operator in question."""
    traced = trace(call, call.tensors)
    nodes = [n for n in traced.graph.nodes if any(v.dtype != "int" for v in n.inputs)]
    nodes = [n for n in nodes if f"{n.op}.".startswith(f"{call.op_name}.")] or nodes
    if len(nodes) != 1:
        raise RuleError(
            f"the function calls {len(nodes)} operators: {', '.join(n.op for n in nodes)}",
            hint="check them one by one",
        )
    sample = sample_calls(traced, {nodes[0].name})[nodes[0].name]
    if isinstance(sample, RuleError):
        raise RuleError(f"the rule of {nodes[0].op} cannot be checked: {sample.what}")
    return sample


def _proposal(sample: Sample) -> tuple[str, Operator | None]:
    """What experiments find, as text and as a rule."""
    try:
        probed = probe(sample)
    except RuleError:
        return "", None
    return str(probed), probed.operator


def _rows(rule: Examined, free: set[tuple[str, int]], found: list[Fault]) -> Iterator[AxisRow]:
    sample, typed = rule.sample, rule.typed
    wrong = {place: fault.text for fault in found for place in fault.places}
    for name, array in sample.operands.items():
        for dim, size in enumerate(array.shape):
            if size == 1:
                continue
            if (name, dim) in wrong:
                verdict, text = "wrong", wrong[name, dim]
            elif (name, dim) in free:
                verdict, text = "free", _whereabouts(sample, typed, name, dim)
            else:
                uids = typed.types[name][dim].uids
                verdict = "pinned"
                text = next(
                    (str(r) for u, r in typed.pins.items() if u in uids), "told apart one by one"
                )
            yield AxisRow(sample.labels[name], dim, size, verdict, text)


def _free(typed: TypedGraph) -> set[tuple[str, int]]:
    return {place for leaf in free_leaves(typed) for place in places(typed, leaf)}


def _whereabouts(sample: Sample, typed: TypedGraph, name: str, dim: int) -> str:
    """Where else the axis occurs."""
    uids = typed.types[name][dim].uids
    others = [
        f"{sample.labels[other]} dim {d}"
        for other, shape in typed.types.items()
        for d, axis in enumerate(shape)
        if (other, d) != (name, dim) and not axis.uids.isdisjoint(uids)
    ]
    return f"as {', '.join(others)}" if others else "summed over"


class _Around(nn.Module):
    """A network around a call: weights make its operands, and weights read its outputs."""

    def __init__(self, call: _Call, weights: bool) -> None:
        super().__init__()
        self.call = call
        self.made: list[int] = []
        generator = torch.Generator().manual_seed(0)
        for i, tensor in enumerate(call.tensors):
            if not tensor.is_floating_point():
                self.register_buffer(f"operand_{i}", tensor.clone())
                continue
            if not (weights and self.made):
                self.made.append(i)
            setattr(self, f"operand_{i}", nn.Parameter(tensor.clone()))
        for i, output in enumerate(self._outputs()):
            reader = torch.randn((*output.shape, OUTPUTS), generator=generator, dtype=output.dtype)
            setattr(self, f"reader_{i}", nn.Parameter(reader))

    def _outputs(self, *scales: torch.Tensor) -> list[torch.Tensor]:
        remaining = iter(scales)
        operands = []
        for i in range(len(self.call.tensors)):
            operand = getattr(self, f"operand_{i}")
            scale = next(remaining, None) if i in self.made else None
            operands.append(operand if scale is None else operand * scale)
        outputs = pytree.tree_leaves(self.call(*operands))
        return [v for v in outputs if isinstance(v, torch.Tensor) and v.is_floating_point()]

    def forward(self, *scales: torch.Tensor) -> list[torch.Tensor]:
        outputs = self._outputs(*scales)
        return [_read(y, getattr(self, f"reader_{i}")) for i, y in enumerate(outputs)]

    def scales(self) -> tuple[torch.Tensor, ...]:
        """Example inputs: one factor for each operand that is computed."""
        return tuple(torch.tensor(1.0, dtype=self.call.tensors[i].dtype) for i in self.made)


def _read(output: torch.Tensor, reader: torch.Tensor) -> torch.Tensor:
    """Random sums over all axes of an output."""
    axes = "abcdefghijklmno"[: output.ndim]
    return torch.einsum(f"{axes},{axes}z->z", output, reader)


def _network_faults(call: _Call) -> list[str]:
    """What is wrong once the call stands in a network, with operands computed and as weights."""
    found = []
    for weights in (False, True):
        network = _Around(call, weights)
        if not network.made or (weights and len(network.made) == len(call.tensors)):
            continue
        reads = None if weights else _is_reader
        try:
            check_network(network, network.scales(), reads=reads)
        except AutopruneError as error:
            found.append(f"in a network, {error.what}")
    return found


def _is_reader(name: str, dim: int) -> bool:
    return name.startswith("reader")
