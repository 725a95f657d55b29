"""Let a model's configuration state its new sizes, so that the library it is from can save it.

Libraries of models keep sizes in a configuration from which the class builds a network:
`type(model)(model.config)`. Which of its numbers a cut changes is found by building networks from
candidates and comparing the shapes of their parameters with those of the pruned one.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import io
import math
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn

from autoprune.errors import AutopruneError, first_line
from autoprune.frameworks.torch.equality import difference, run, tolerance
from autoprune.frameworks.torch.objects import Inputs
from autoprune.frameworks.torch.quiet import quiet
from autoprune.frameworks.torch.trace import copy_of
from autoprune.ir.plan import Plan

Changes = Mapping[int, Collection[int]]

Shapes = Mapping[str, tuple[int, ...]]

AttributePath = tuple[str, ...]
"""Attribute names that lead from a configuration to a number in it or in one nested in it."""

Values = Mapping[AttributePath, float | None]

BUILDS = 60
"""Most networks that are built, without weights, in search of a configuration."""


@dataclass(frozen=True)
class _Number:
    place: AttributePath
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
    if isinstance(vars(pruned).get("save_pretrained"), NotSaved):  # pruned before
        del vars(pruned)["save_pretrained"]
    if not has_configuration(pruned):
        return ""
    if not hasattr(pruned.config, "__dict__"):
        return f"its configuration is a {type(pruned.config).__name__}, which is left as it is"
    known: dict[float, set[float]] = {old: set(new) for old, new in changes.items()}
    for entries in plan.constants.values():
        for before, after in entries.values():
            if before is not None:
                known.setdefault(before, set()).add(after)
    chosen = Blueprint(pruned).numbers(known, shapes_of(pruned))
    if chosen is None:
        return "no values of its configuration give the layers these sizes"
    usual = {place: _get(pruned.config, place) for place in chosen}
    _set(pruned.config, chosen)
    problem = _disagreement(pruned, inputs)
    if problem:
        _set(pruned.config, usual)
    return problem


def has_configuration(model: nn.Module) -> bool:
    """Whether a library can save and load the model by a configuration of it."""
    return hasattr(model, "config") and callable(getattr(model, "save_pretrained", None))


@dataclass(frozen=True)
class NotSaved:
    """Takes the place of `save_pretrained` where the configuration would be wrong.

    Attributes:
        model: the pruned network.
        obstacle: why its configuration cannot describe it.
    """

    model: nn.Module
    obstacle: str

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """Refuse, or warn a trainer, which writes weights to load them into the network it has.

        Raises:
            AutopruneError: unless `state_dict` is among the keywords.
        """
        what = f"the configuration cannot describe this network ({self.obstacle})"
        hint = 'save it with its plan, result.save("small.safetensors"), or prune it with '
        hint += "Options(keep_config=True)"
        if "state_dict" not in keywords:
            raise AutopruneError(f"{what}: from_pretrained could not read it", hint=hint)
        warnings.warn(f"{what}: from_pretrained cannot read this checkpoint; {hint}", stacklevel=2)
        save: Any = type(self.model).save_pretrained  # type: ignore[attr-defined]
        return save(self.model, *args, **keywords)


def refuse_saving(model: nn.Module, obstacle: str) -> None:
    """Let `save_pretrained` write nothing that cannot be read."""
    if has_configuration(model):
        vars(model)["save_pretrained"] = NotSaved(model, obstacle)


LARGE = 2 << 30
"""Bytes of weights above which no checkpoint is written only to be read again."""


def reads_back(model: nn.Module, inputs: Inputs) -> str:
    """Why what `save_pretrained` writes does not come back by `from_pretrained`, or nothing."""
    load: Any = getattr(type(model), "from_pretrained", None)
    save: Any = model.save_pretrained
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    if load is None or weights > LARGE:
        return ""
    expected = run(copy_of(model).eval(), inputs)
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stderr(io.StringIO()),
            torch.random.fork_rng(devices=[]),
        ):
            save(folder)
            loaded = load(folder)
        gap = difference(expected, run(loaded.to(next(model.parameters()).device).eval(), inputs))
    except Exception as error:
        return f"what save_pretrained writes cannot be read: {first_line(error)}"
    if not gap <= tolerance(expected):
        return f"what save_pretrained writes computes something else, by {gap:.1e}"
    return ""


def _disagreement(pruned: nn.Module, inputs: Inputs) -> str:
    try:
        with torch.random.fork_rng(devices=[]):
            rebuilt = type(pruned)(copy.deepcopy(pruned.config)).to(next(pruned.parameters()).dtype)
        rebuilt.load_state_dict(pruned.state_dict())
        expected = run(copy_of(pruned).eval(), inputs)
        gap = difference(expected, run(rebuilt.eval(), inputs))
    except Exception as error:
        return f"a network built from its new configuration fails: {first_line(error)}"
    if gap > tolerance(expected):
        return f"a network built from its new configuration differs by {gap:.1e}"
    return ""


def _numbers(
    config: Any, changes: Mapping[float, set[float]], path: AttributePath = ()
) -> Iterator[_Number]:
    """The numbers of a configuration that may have changed."""
    own = set(inspect.signature(type(config)).parameters)
    own.update(*(getattr(base, "__annotations__", ()) for base in type(config).__mro__))
    for name, value in vars(config).items():
        if isinstance(value, int | float) and not isinstance(value, bool) and value in changes:
            yield _Number((*path, name), value, tuple(sorted(changes[value])))
        elif value is None and name in own:  # a size that follows from others until it is given
            everything = {new for numbers in changes.values() for new in numbers}
            yield _Number((*path, name), None, tuple(n for n in everything if type(n) is int))
        elif _is_akin(value, config):
            yield from _numbers(value, changes, (*path, name))


def _is_akin(value: Any, config: Any) -> bool:
    """Whether an attribute of a configuration is one, too: of its file, or with a common base."""
    if not hasattr(value, "__dict__") or isinstance(value, type):
        return False
    bases = set(type(value).__mro__) & set(type(config).__mro__) - {object}
    return bool(bases) or type(value).__module__ == type(config).__module__


class Blueprint:
    """Networks of a model's class as other configurations have them, built without weights."""

    def __init__(self, model: nn.Module) -> None:
        self._network = type(model)
        self._config: Any = model.config
        self._built: dict[frozenset[tuple[AttributePath, float | None]], Shapes | None] = {}

    def numbers(self, changes: Mapping[float, set[float]], shapes: Shapes) -> Values | None:
        """Values with which the class has parameters of the given shapes, by coordinate descent.

        Numbers that no shape depends on, such as the epsilon of a norm, take their new value.

        Args:
            changes: by size before the cut, what axes of that size have shrunk to.
            shapes: of every tensor of the state.
        """
        numbers = [n for n in _numbers(self._config, changes) if not self._is_structural(n)]
        numbers.sort(key=lambda n: n.old is None)
        certain = {n.place: n.candidates[0] for n in numbers if n.old and len(n.candidates) == 1}
        builds = count(1)

        def distances(values: Values) -> dict[str, float] | None:
            """How far parameters are from their shapes; None where sizes do not go together."""
            built = self._shapes(values) if next(builds) <= BUILDS else None
            if built is None or built.keys() != shapes.keys():
                return None
            return {n: _distance(built[n], s) for n, s in shapes.items() if built[n] != s}

        found = (_descended(numbers, start, shapes, distances) for start in (certain, {}))
        return next((values for values in found if values is not None), None)

    def _is_structural(self, number: _Number) -> bool:
        """Whether it says how many layers there are, not how large they are."""
        usual = self._shapes({})
        built = [self._shapes({number.place: value}) for value in number.candidates[:1]]
        return any(b is not None and usual is not None and b.keys() != usual.keys() for b in built)

    def _shapes(self, values: Values) -> Shapes | None:
        """Of the class with other numbers; None if it refuses them, in whatever words."""
        changed = {place: v for place, v in values.items() if v != _get(self._config, place)}
        key = frozenset(changed.items())
        if key not in self._built:
            trial = copy.deepcopy(self._config)
            # What a library says of configurations that are only tried is not for users.
            try:
                with quiet(), torch.device("meta"):
                    _set(trial, changed)
                    trial = _written_and_read(trial)
                    self._built[key] = shapes_of(self._network(trial))
            except Exception:
                self._built[key] = None
        return self._built[key]


def _descended(
    numbers: Sequence[_Number],
    start: Values,
    shapes: Shapes,
    distances: Callable[[Values], dict[str, float] | None],
) -> Values | None:
    """Values with which no shape is wrong, if changing number by number leads there."""
    chosen, wrong, improved = start, distances(start), True
    while wrong and improved:
        improved = False
        for number in numbers:
            for value in _candidates(number, {size for name in wrong for size in shapes[name]}):
                trial = {**chosen, number.place: value}
                if value == chosen.get(number.place, number.old):
                    continue
                left = distances(trial)
                if left is not None and sum(left.values()) < sum(wrong.values()) - 1e-6:
                    chosen, wrong, improved = trial, left, True
            if not wrong:
                break
    return chosen if wrong == {} else None


def _candidates(number: _Number, missing: Collection[int]) -> Iterator[float | None]:
    """What a number may become; one that is not given may change with what it followed from."""
    yield number.old
    yield from (n for n in number.candidates if number.old is not None or n in missing)
    if number.old is None:
        yield from (n for n in missing if n not in number.candidates)


def _distance(built: Sequence[int], wanted: Sequence[int]) -> float:
    if len(built) != len(wanted):
        return float("inf")
    return sum(abs(math.log(max(b, 1) / max(w, 1))) for b, w in zip(built, wanted, strict=True))


def shapes_of(model: nn.Module) -> Shapes:
    """The shape of every tensor of a model's state."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _written_and_read(config: Any) -> Any:
    """A configuration as it comes back from a file: its class may check what goes together."""
    if hasattr(config, "validate"):
        config.validate()
    if callable(getattr(config, "to_dict", None)) and hasattr(type(config), "from_dict"):
        return type(config).from_dict(config.to_dict())
    return config


def _get(config: Any, place: AttributePath) -> Any:
    for name in place:
        config = getattr(config, name)
    return config


def _set(config: Any, values: Values) -> None:
    for place, value in values.items():
        setattr(_get(config, place[:-1]), place[-1], value)
