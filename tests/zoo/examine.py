"""What is asked of every model of the zoo, and the table row that answers it."""

from __future__ import annotations

import copy
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

import autoprune as ap
from autoprune.frameworks.torch.export_onnx import export_onnx
from autoprune.frameworks.torch.trace import as_inputs
from autoprune.report import Report
from tests.tolerance import CUT
from tests.zoo.prunable import PRUNABLE
from tests.zoo.row import ZooModel
from tests.zoo.weights import Inputs, call

LITTLE = 0.5
"""Where exact groups cover less than this share of the parameters, the row says why."""


@dataclass(frozen=True)
class Examination:
    """One row of the zoo's table.

    Attributes:
        name: of the model.
        groups: how many of each guarantee.
        prunable: share of the parameters that goes if one unit of every exact group stays.
        params: share of parameters kept, half of the units of every group gone.
        flops: share of FLOPs kept, likewise.
        error: largest relative difference between the cut and the zeroed network.
        seeds: random choices of units that were tried.
        seconds: processor time of the analysis, after export.
        module: `same class` or `GraphModule`.
        reason: why a GraphModule.
        kept: where little is prunable, the axis that keeps most parameters, and why.
        onnx: `equal`, what the exporter cannot do with the unpruned model either, or empty.
    """

    name: str
    groups: dict[str, int]
    prunable: float
    params: float
    flops: float
    error: float
    seeds: int
    seconds: float
    module: str
    reason: str
    kept: str
    onnx: str


def examine(row: ZooModel, seeds: Sequence[int] = (0,), *, files: bool = False) -> Examination:
    """Prune half of every exact group at random; the result must do what a model does.

    It computes what the zeroed model computes (`prune` itself compares them, for each seed),
    copies, loads, trains, and prunes again. With `files` it is also written and read back as
    safetensors, and as ONNX, where ONNX Runtime must agree with torch.

    Raises:
        AssertionError, AutopruneError: if it does not.
    """
    model, inputs = row.build(), row.inputs()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        result = _halved(model, inputs, seeds[0])
    except ap.BudgetError:
        return _whole(row.name, model, inputs)
    errors = [result.report.error]
    for seed in seeds[1:]:
        options = ap.Options(keep_class=False)
        errors.append(_halved(model, inputs, seed, options).report.error)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} of the user's model has changed"
    report = result.report
    assert_prunable(report, PRUNABLE.get(row.name, ()))
    assert_trains(copied(result.model), inputs)
    onnx = ""
    if files:
        with tempfile.TemporaryDirectory() as folder:
            assert_reloads(model, result, inputs, Path(folder))
            onnx = _onnx(model, result, inputs, Path(folder))
    assert_prunes_again(result.model, inputs)
    params = max(1, report.before.params)
    prunable = 1 - report.least.params / params
    return Examination(
        name=row.name,
        groups=_guarantees(report),
        prunable=prunable,
        params=report.after.params / params,
        flops=report.after.flops / max(1, report.before.flops),
        error=max(errors),
        seeds=len(seeds),
        seconds=report.analysis_seconds,
        module=report.module,
        reason=without_folders(report.module_reason),
        kept=_largest_kept(report, model.state_dict()) if prunable < LITTLE else "",
        onnx=onnx,
    )


def _whole(name: str, model: nn.Module, inputs: Inputs) -> Examination:
    """The row of a model of which nothing can be pruned exactly."""
    report = ap.inspect(model, inputs)
    assert report.least == report.before, "a budget was refused, though there is what could go"
    return Examination(
        name=name,
        groups=_guarantees(report),
        prunable=0.0,
        params=1.0,
        flops=1.0,
        error=0.0,
        seeds=0,
        seconds=report.analysis_seconds,
        module="same class",
        reason="",
        kept=_largest_kept(report, model.state_dict()),
        onnx="",
    )


def _guarantees(report: Report) -> dict[str, int]:
    """How many groups there are of each guarantee."""
    return dict(Counter(group.guarantee for group in report.groups))


def without_folders(text: str) -> str:
    """A text in which paths begin below where packages are installed, as on any machine."""
    return re.sub(r"/\S*/(?:site-packages/|(?=tests/))", "", text)


def _halved(
    model: nn.Module, inputs: Inputs, seed: int, options: ap.Options | None = None
) -> ap.Result:
    chosen = {} if options is None else {"options": options}
    return ap.prune(
        model, inputs, channels=0.5, criterion="random", multiple_of=1, seed=seed, **chosen
    )


def assert_prunable(report: Report, axes: Sequence[str]) -> None:
    """Each axis, written `parameter:dim`, is one that an exact group owns slices of."""
    exact = {
        place for row in report.groups if row.guarantee != "approximate" for place in row.where
    }
    for axis in axes:
        assert axis in exact, f"{axis} cannot be pruned"


def forward(model: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    """Floating-point outputs of a forward pass."""
    leaves = pytree.tree_leaves(call(model, inputs))
    return [v for v in leaves if isinstance(v, torch.Tensor) and v.is_floating_point()]


def assert_trains(model: nn.Module, inputs: Inputs) -> None:
    """A backward pass reaches parameters, with finite gradients."""
    model.train()
    sum(v.square().sum() for v in forward(model, inputs)).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients, "no gradient reaches any parameter"
    assert all(g.isfinite().all() for g in gradients)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, into which the state of the model loads."""
    duplicate = copy.deepcopy(model)
    duplicate.load_state_dict(model.state_dict())
    assert all(
        a.shape == b.shape for a, b in zip(model.parameters(), duplicate.parameters(), strict=True)
    )
    return duplicate


def assert_prunes_again(model: nn.Module, inputs: Inputs) -> None:
    """The pruned model is a model like any other: a quarter of what is left can go, if any is."""
    try:
        again = ap.prune(model, inputs, channels=0.75, criterion="random", multiple_of=1)
    except ap.BudgetError:
        left = ap.inspect(model, inputs)
        assert left.least == left.before, "a budget was refused, though there is what could go"
    else:
        assert again.report.error <= CUT


def assert_reloads(model: nn.Module, result: ap.Result, inputs: Inputs, folder: Path) -> None:
    """Weights and plan, written and applied to the unpruned model, give the pruned one."""
    path = result.save(folder / "small.safetensors")
    loaded = ap.load(model, path, inputs).eval()
    expected, found = result.model.eval().state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor, found[name]), f"{name} was not loaded"


def _onnx(model: nn.Module, result: ap.Result, inputs: Inputs, folder: Path) -> str:
    """Whether ONNX Runtime computes what torch does; raises if only the pruned model fails."""
    try:
        result.save(folder / "small.onnx")
    except Exception:
        try:
            export_onnx(copy.deepcopy(model), as_inputs(inputs), folder / "full.onnx")
        except Exception as error:
            return _cause(error)
        raise
    return "equal"


def _cause(error: BaseException) -> str:
    """What went wrong first: exporters wrap it, and say in several lines where to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = str(error).strip().splitlines()[0]
    # Results are kept: no folders of the machine they were found on.
    return f"{type(error).__name__}: {re.sub(r'(/[^/ ]+)+/', '', line)}"


def _largest_kept(report: Report, state: Mapping[str, torch.Tensor]) -> str:
    """The inexact or pinned axis whose cut to one position would remove most, and its reason."""
    inexact = [row for row in report.groups if row.guarantee == "approximate"]
    axes = [
        *((row.units, row.where, f"approximate, {row.reason}") for row in inexact),
        *((row.size, row.where, row.reason) for row in report.pinned),
    ]

    def kept(axis: tuple[int, tuple[str, ...], str]) -> float:
        size, places, _ = axis
        names = {place.rpartition(":")[0] for place in places}
        return sum(state[name].numel() for name in names if name in state) * (1 - 1 / size)

    size, places, reason = max(axes, key=kept)
    return f"`{places[0]}` ({size}): {reason}"
