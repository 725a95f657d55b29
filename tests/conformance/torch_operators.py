"""PyTorch's own operator database, each operator between layers, cut against zeroed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import torch

import autoprune as ap
from autoprune.errors import AutopruneError, BudgetError, GraphError, NotEqualError
from autoprune.frameworks.torch.equality import difference
from tests.conformance.outcome import Outcome
from tests.conformance.sandwich import Sandwich
from tests.conformance.zeroing import zeroed
from tests.tolerance import ROUNDING_DOUBLE, ROUNDING_SINGLE

TITLE = "PyTorch"

INTRODUCTION = """
`torch.testing._internal.common_methods_invocations.op_db`: for each operator some of its sample
inputs. Every floating-point tensor is made by linear layers, one along each of its axes, and every
output is read by linear layers along each of its axes.
"""

SAMPLES = 6
"""Sample inputs that are tried of each operator, spread over all there are."""

DTYPES = (torch.float64, torch.float32, torch.complex128, torch.complex64, torch.int64, torch.bool)
"""The first of these that an operator takes is used."""


UNINITIALIZED = ("empty_like", "new_empty", "new_empty_strided")


@cache
def _database() -> dict[str, Any]:
    frozen = torch.backends.flags_frozen()
    from torch.testing._internal.common_methods_invocations import op_db

    if not frozen:  # the import forbids all that comes later, such as trainers, to set flags
        vars_of_backends = torch.backends.flags_frozen.__globals__
        vars_of_backends["__allow_nonbracketed_mutation_flag"] = True

    return {op.formatted_name: op for op in op_db}


def names() -> list[str]:
    """Names of all operators."""
    return list(_database())


def examine(name: str, samples: int = SAMPLES) -> Outcome:
    """Prune networks around one operator."""
    if name in UNINITIALIZED:
        return Outcome(name, "not applicable", "what it returns is not defined")
    found = [Outcome(name, *each) for each in _results(_database()[name], samples)]
    order = ("failed", "pruned", "no rule", "kept whole", "refused", "not applicable")
    return min(found, key=lambda outcome: (order.index(outcome.result), not outcome.reason))


def _results(info: Any, samples: int) -> Iterator[tuple[str, str]]:
    dtype = next((d for d in DTYPES if d in info.dtypes), None)
    if dtype is None:
        yield "not applicable", f"it takes {', '.join(sorted(map(str, info.dtypes)))}"
        return
    for generator in (random, np.random):
        generator.seed(0)
    torch.manual_seed(0)
    try:
        found = list(info.sample_inputs("cpu", dtype, requires_grad=False))
    except Exception as error:
        yield "not applicable", f"no sample inputs: {first_line(error)}"
        return
    step = max(1, -(-len(found) // samples))
    for i, sample in enumerate(found[::step]):
        args = (sample.input, *sample.args)
        yield attempt(info.op, args, sample.kwargs, (dtype,), bias=i % 2 == 1)
        if i == 0 and info.inplace_variant is not None:
            yield attempt(partial(_in_place, info.inplace_variant), args, sample.kwargs, (dtype,))
    if not found:
        yield "not applicable", "it has no sample inputs"


def _in_place(op: Callable[..., Any], first: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    return op(first.clone(), *args, **kwargs)


def attempt(
    op: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    dtypes: tuple[torch.dtype, ...],
    *,
    bias: bool = False,
) -> tuple[str, str]:
    """Prune a network around one call; the result and its reason."""
    torch.manual_seed(0)
    try:
        network = Sandwich(op, args, kwargs, dtypes, bias)
        inputs = network.example()
        with torch.no_grad():
            outputs = network(*inputs)
    except Exception as error:
        return "not applicable", f"torch does not run it: {first_line(error)}"
    if not network.made or not network.read:
        return "not applicable", "no tensor goes in" if network.read else "no tensor comes out"
    if any(output.isnan().all() for output in outputs if output.numel()):
        return "not applicable", "its result is not a number"
    try:
        return _pruned(network, inputs)
    except (GraphError, NotEqualError) as error:
        ours = error.what.startswith(("the cut network", "the rule of"))
        return "failed" if ours else "refused", first_line(error)
    except AutopruneError as error:
        return "refused", first_line(error)
    except Exception as error:
        return "failed", first_line(error)


def _pruned(network: Sandwich, inputs: tuple[torch.Tensor, ...]) -> tuple[str, str]:
    try:
        result = ap.prune(network, inputs, channels=0.5, criterion="random", multiple_of=1)
    except BudgetError:
        return _why_whole(ap.inspect(network, inputs))
    if not result.plan.groups:
        return _why_whole(result.report)
    guarantees = {group.name: group.guarantee for group in result.report.groups}
    expected = zeroed(network, result.plan, guarantees, inputs)
    with torch.no_grad():
        gap = difference(expected, result.model(*inputs))
    single = any(made.dtype.itemsize < 8 for made in network.made.values())
    if gap > (ROUNDING_SINGLE if single else ROUNDING_DOUBLE):
        return "failed", f"cut and zeroed differ by {gap:.1e}"
    return "pruned", ""


def _why_whole(report: ap.Report) -> tuple[str, str]:
    if report.unknown_operators:
        return "no rule", ", ".join(op.name for op in report.unknown_operators)
    reasons = [axis.reason for axis in report.pinned if axis.name.startswith("made")]
    reasons += [group.reason for group in report.groups]
    reasons += [axis.reason for axis in report.pinned if axis.name.startswith("read")]
    own = [reason for reason in reasons if "input" not in reason]
    return "kept whole", next(iter([*own, *reasons]), "")


def first_line(error: BaseException) -> str:
    """The kind of an error, and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
