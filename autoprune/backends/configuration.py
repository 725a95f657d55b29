"""Let a model's configuration state its new sizes, so that the library it is from can save it.

Libraries of models keep sizes in a configuration from which the class builds a network:
`type(model)(model.config)`. Which of its numbers a cut changes is found by building networks from
candidates and comparing the shapes of their parameters with those of the pruned one.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoprune.backends.equality import difference, run, tolerance
from autoprune.frontends.objects import Inputs
from autoprune.frontends.torch import copy_of
from autoprune.ir.plan import Plan

Changes = Mapping[int, Collection[int]]

Place = tuple[str, ...]
"""Attribute names that lead from a configuration to a number in it or in one nested in it."""


BUILDS = 60
"""Most networks that are built, without weights, in search of a configuration."""


@dataclass(frozen=True)
class _Number:
    place: Place
    old: float | None
    candidates: tuple[float, ...]


def follow_configuration(pruned: nn.Module, plan: Plan, changes: Changes, inputs: Inputs) -> str:
    """Set the numbers in `pruned.config` such that its class builds a network of its shape.

    Args:
        pruned: the pruned model, of the user's class; its configuration is changed in place.
        plan: that made it.
        changes: by size before the cut, what axes of that size have shrunk to.
        inputs: example inputs, on which the two must agree.

    Returns:
        Why the configuration cannot say what `pruned` is, or nothing if it does or there is none.
    """
    if not (hasattr(pruned, "config") and callable(getattr(pruned, "save_pretrained", None))):
        return ""
    if not hasattr(pruned.config, "__dict__"):
        return f"its configuration is a {type(pruned.config).__name__}, which is left as it is"
    shapes = _shapes(pruned)
    constants = [pair for entries in plan.constants.values() for pair in entries.values()]
    known: dict[float, set[float]] = {old: set(new) for old, new in changes.items()}
    for old, new in constants:
        if old is not None:
            known.setdefault(old, set()).add(new)
    numbers = list(_numbers(pruned.config, known))
    try:
        chosen = _search(type(pruned), pruned.config, numbers, shapes)
    except Exception as error:
        return f"its class cannot be built from its configuration: {error}"
    if chosen is None:
        return "no values of its configuration give the layers these sizes"
    before = copy.deepcopy(pruned.config)
    _set(pruned.config, chosen)
    problem = _disagreement(pruned, inputs)
    if problem:
        _set(pruned.config, {place: _get(before, place) for place in chosen})
    return problem


def _disagreement(pruned: nn.Module, inputs: Inputs) -> str:
    try:
        with torch.random.fork_rng(devices=[]):
            rebuilt = type(pruned)(copy.deepcopy(pruned.config)).to(next(pruned.parameters()).dtype)
        rebuilt.load_state_dict(pruned.state_dict())
        expected = run(copy_of(pruned).eval(), inputs)
        gap = difference(expected, run(rebuilt.eval(), inputs))
    except Exception as error:
        return f"a network built from its new configuration fails: {str(error).splitlines()[0]}"
    if gap > tolerance(expected):
        return f"a network built from its new configuration differs by {gap:.1e}"
    return ""


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _numbers(
    config: Any, changes: Mapping[float, set[float]], path: Place = ()
) -> Iterator[_Number]:
    """The numbers of a configuration that may have changed."""
    own = inspect.signature(type(config)).parameters.keys() | type(config).__annotations__.keys()
    for name, value in vars(config).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value in changes:
            yield _Number((*path, name), value, tuple(sorted(changes[value])))
        elif value is None and name in own:  # a size that follows from others until it is given
            everything = {new for numbers in changes.values() for new in numbers}
            yield _Number((*path, name), None, tuple(n for n in everything if type(n) is int))
        elif hasattr(value, "__dict__") and type(value).__module__ == type(config).__module__:
            yield from _numbers(value, changes, (*path, name))


def _search(
    network: type[nn.Module],
    config: Any,
    numbers: list[_Number],
    shapes: Mapping[str, torch.Size],
) -> dict[Place, float | None] | None:
    """Values with which `network` has parameters of the given shapes, by coordinate descent.

    Numbers that no shape depends on, such as the epsilon of a norm, take their new value.
    """
    builds = 0

    def mismatches(values: Mapping[Place, float | None]) -> set[str] | None:
        """Parameters of another shape; None where the sizes do not go together."""
        nonlocal builds
        builds += 1
        trial = copy.deepcopy(config)
        try:
            _set(trial, values)
            with torch.device("meta"):
                built = _shapes(network(trial))
        except Exception:
            return None  # the class itself says what goes together, in its own words
        if built.keys() != shapes.keys():
            return None
        return {name for name, shape in shapes.items() if built[name] != shape}

    certain = {n.place: n.candidates[0] for n in numbers if n.old and len(n.candidates) == 1}
    for start in (certain, {}):
        chosen: dict[Place, float | None] = dict(start)
        wrong = mismatches(chosen)
        improved = True
        while wrong and improved:
            improved = False
            for number in sorted(numbers, key=lambda n: n.old is None):
                missing = {size for name in wrong for size in shapes[name]}
                for value in (number.old, *number.candidates):
                    trial = {**chosen, number.place: value}
                    stated = value == chosen.get(number.place, number.old)
                    if stated or builds >= BUILDS or (number.old is None and value not in missing):
                        continue
                    left = mismatches(trial)
                    if left is not None and len(left) < len(wrong):
                        chosen, wrong, improved = trial, left, True
                if not wrong:
                    break
        if wrong is not None and not wrong:
            return chosen
    return None


def _get(config: Any, place: Place) -> Any:
    for name in place:
        config = getattr(config, name)
    return config


def _set(config: Any, values: Mapping[Place, float | None]) -> None:
    for place, value in values.items():
        setattr(_get(config, place[:-1]), place[-1], value)
