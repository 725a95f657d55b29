"""A cut network in the model's own class where that can follow, and what it can follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import fx, nn

from autoprune.analysis.planning import make_plan
from autoprune.analysis.resizing import shrunk_sizes
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import AutopruneError, TraceError
from autoprune.frameworks.network import Choice, Delivered, Describable
from autoprune.frameworks.torch.carried import carried_plan, carry, was_changed
from autoprune.frameworks.torch.cut import GraphNetwork, independent
from autoprune.frameworks.torch.equality import difference, run, tolerance
from autoprune.frameworks.torch.memory import collect_like
from autoprune.frameworks.torch.own_class.attributes import Inexpressible, shared_sizes
from autoprune.frameworks.torch.own_class.configuration import (
    follow_configuration,
    has_configuration,
    reads_back,
    refuse_saving,
)
from autoprune.frameworks.torch.own_class.describable import Draft, describable
from autoprune.frameworks.torch.own_class.modules import architecture_of
from autoprune.frameworks.torch.own_class.rebuild import in_own_class, inexpressible
from autoprune.frameworks.torch.trace import Traced, copy_of
from autoprune.ir.plan import Plan
from autoprune.report.progress import say

CHANGED = (
    "The network was pruned before, and its layers were changed afterwards: the plan starts from "
    "the network as it was given, and its files load into such a one, not into the original."
)


@dataclass(frozen=True)
class TorchClass:
    """See `OwnClass`.

    Attributes:
        traced: the module and its graph.
    """

    traced: Traced

    def ties(self, typed: TypedGraph, free: frozenset[int]) -> tuple[frozenset[int], ...]:
        return tuple(shared_sizes(self.traced.model, typed, free))

    def is_configured(self, *, required: bool) -> bool:
        model = self.traced.model
        if not has_configuration(model):
            return False
        config: Any = model.config
        has_numbers = hasattr(config, "__dict__")
        if required and not has_numbers:
            raise AutopruneError(
                f"keep_config=True: the configuration is a {type(config).__name__}, which is "
                "left as it is",
                hint="leave keep_config out and keep the result with "
                'result.save("small.safetensors")',
            )
        return has_numbers

    @property
    def configuration(self) -> str:
        model: Any = self.traced.model
        return f"configuration {type(model.config).__name__} of {type(model).__name__}"

    def describable(self, typed: TypedGraph, roles: Sequence[frozenset[int]]) -> Describable:
        return describable(Draft(self.traced.model, typed), roles)

    def objections(
        self, choice: Choice, parts: Sequence[frozenset[int]], *, configured: bool
    ) -> dict[int, str]:
        return inexpressible(self.traced, choice, parts, configured=configured)


def delivered(
    traced: Traced,
    network: nn.Module,
    choice: Choice,
    folded: tuple[str, ...],
    *,
    keep_class: bool,
    keep_config: bool,
) -> Delivered:
    """See `Network.deliver`; `network` is the cut graph."""
    assert isinstance(network, GraphNetwork)
    model = traced.model
    collect_like(model)
    result, plan, reason = _formed(traced, choice, network, keep_class=keep_class)
    plan = replace(
        plan,
        folded=folded,
        architecture=architecture_of(model),
        alike=_alike(model, choice) if plan.rebuildable else (),
    )
    plan = plan.sealed().after(carried_plan(model))
    carry(result, plan)
    notes = []
    if traced.outputs is not None and traced.outputs.state:
        notes.append(
            "The forward also returns state, which it takes again in its next call, and whose "
            "tensors may shrink with the layers that fill it: "
            f"{', '.join(traced.outputs.state)}."
        )
    obstacle = ""
    if not reason:
        changes = shrunk_sizes(choice.typed, choice.kept)
        obstacle = follow_configuration(result, plan, changes, traced.inputs)
        if keep_config and has_configuration(result):
            obstacle = obstacle or reads_back(result, traced.inputs)
    if obstacle:
        refuse_saving(result, obstacle)
        notes.append(
            f"Its configuration cannot describe it ({obstacle}): keep it with its plan, "
            'result.save("small.safetensors").'
        )
    if was_changed(model):
        notes.append(CHANGED)
    form = "GraphModule" if reason else "same class"
    return Delivered(result, plan, form, reason, obstacle, tuple(notes))


def _formed(
    traced: Traced, choice: Choice, network: GraphNetwork, *, keep_class: bool
) -> tuple[nn.Module, Plan, str]:
    """The pruned network as the model's own class, or the cut graph and why it has to be that."""
    reason = "keep_class=False"
    if isinstance(traced.model, fx.GraphModule):
        reason = "so was the network that was given"
    elif keep_class:
        say("cutting it in the model's own class")
        try:
            return *in_own_class(traced, choice, network), ""
        except Inexpressible as inexpressible:
            reason = str(inexpressible)
    _check_export(traced)
    plan = make_plan(choice.typed, choice.names, choice.kept, None)
    return independent(network, traced), plan, reason


def _check_export(traced: Traced) -> None:
    """A result that only exists as a graph is worth what the exported graph is worth."""
    runs = copy_of(traced.model, shared=not traced.graph.mutated).eval()
    expected = traced.required(run(runs, traced.inputs))
    gap = difference(expected, traced.required(run(traced.module, traced.inputs)))
    if gap > tolerance(expected):
        raise TraceError(
            f"the exported graph computes something else than the model (relative difference "
            f"{gap:.1e})",
            hint="the forward may draw random numbers or depend on state that the export froze",
        )


def _alike(model: nn.Module, choice: Choice) -> tuple[tuple[str, ...], ...]:
    """Names of groups of which equally many units stay because the model states one size."""
    found = []
    for tie in shared_sizes(model, choice.typed, frozenset(choice.kept)):
        if len(tie) > 1 and len({len(choice.kept[uid]) for uid in tie}) == 1:
            found.append(tuple(sorted(choice.names[uid] for uid in tie)))
    return tuple(sorted(set(found)))
