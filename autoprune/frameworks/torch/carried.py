"""The plan that a pruned module carries along, so that pruning it once more composes.

It is text in an attribute, which survives copies, pickles and loaded weights, and needs nothing of
autoprune to be unpickled. Beside it stands what the network was like: whoever changes layers
afterwards has another network, of which the plan says nothing.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from torch import fx, nn

from autoprune.frameworks.torch.own_class.modules import architecture_of
from autoprune.ir.plan import Plan

_NAME = "_autoprune_plan"


def carry(model: nn.Module, plan: Plan) -> None:
    """Note in a pruned network the plan that made it."""
    note = (_structure(model), plan.to_json())
    vars(model)[_NAME] = note
    if isinstance(model, fx.GraphModule):
        # A copy of a graph module keeps what its graph uses, and this.
        model.meta[_NAME] = note


def carried_plan(model: nn.Module) -> Plan | None:
    """The plan that made the network, if it was pruned and its layers are what they were then."""
    note = _note(model)
    return Plan.from_json(note[1]) if note and note[0] == _structure(model) else None


def was_changed(model: nn.Module) -> bool:
    """Whether the network was pruned, and its layers changed afterwards."""
    note = _note(model)
    return note is not None and note[0] != _structure(model)


def _note(model: nn.Module) -> tuple[str, str] | None:
    found = vars(model).get(_NAME)
    if found is None and isinstance(model, fx.GraphModule):
        found = model.meta.get(_NAME)
    return found


def _structure(model: nn.Module) -> str:
    """Digest of a network's layers and parameters, and of the calls of a traced one."""
    layers: list[Any] = [
        (path, type(module).__qualname__, "forward" in vars(module))
        for path, module in model.named_modules(remove_duplicate=False)
        if not isinstance(module, fx.GraphModule)
    ]
    if isinstance(model, fx.GraphModule):
        numbers = {node: i for i, node in enumerate(model.graph.nodes)}
        layers += [
            (n.op, _called(n.target), [numbers[i] for i in n.all_input_nodes]) for n in numbers
        ]
    text = json.dumps([architecture_of(model), layers])
    return hashlib.sha256(text.encode()).hexdigest()


def _called(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__qualname__", str(target))
