"""Networks of a model's own class as a plan says, without a choice to make."""

from __future__ import annotations

from torch import nn

from autoprune.errors import PlanError, first_line
from autoprune.frameworks.torch.cut import GraphNetwork, independent
from autoprune.frameworks.torch.equality import difference, run, tolerance
from autoprune.frameworks.torch.own_class.modules import (
    check_architecture,
    check_layers,
    rebuild,
)
from autoprune.frameworks.torch.trace import Traced, copy_of
from autoprune.ir.plan import Plan


def rebuilt(model: nn.Module, plan: Plan, *, weights: bool, traceable: bool) -> nn.Module | None:
    """The model cut as one step of a plan says, if it need not be traced for that.

    Args:
        model: the uncut model.
        plan: one step of a plan.
        weights: whether its numbers matter, and not only its shape.
        traceable: whether there are example inputs to trace it on.

    Raises:
        PlanError: if the plan was made for another architecture, or the model has to be traced.
    """
    check_architecture(model, plan)
    if plan.rebuildable and (not weights or not (traceable or plan.folded)):
        return _rebuilt(model, plan)
    if traceable:
        return None
    why = (
        f"constants are added to biases such as {plan.folded[0]}"
        if plan.rebuildable
        else "this plan's network is not of the model's own class"
    )
    raise PlanError(f"{why}, so the model has to be traced", hint="pass example_inputs")


def checked(traced: Traced, network: nn.Module, plan: Plan) -> nn.Module:
    """A network made by slicing and setting attributes, checked against the cut graph.

    If the plan is of no such network, it is the graph itself.

    Raises:
        PlanError: if the two compute something else.
    """
    if not plan.rebuildable:
        assert isinstance(network, GraphNetwork)
        return independent(network, traced)
    small = _rebuilt(traced.model, plan)
    expected = run(network, traced.inputs)
    try:
        gap = difference(expected, run(copy_of(small).eval(), traced.inputs))
    except Exception as error:
        raise PlanError(
            f"the network that the plan makes does not run: {first_line(error):.200}",
            hint="groups whose size the model states only once have to keep as many units",
        ) from error
    if not gap <= tolerance(expected):
        raise PlanError(
            f"the network that the plan makes is not what its groups say (relative difference "
            f"{gap:.1e})",
            hint="use the plan as it was written",
        )
    return small


def _rebuilt(model: nn.Module, plan: Plan) -> nn.Module:
    small = rebuild(model, plan)
    if not plan.seal:
        check_layers(model, small)
    return small
