"""The functions people call: prune, inspect, apply_plan, load, sparsify, compile, to_torch.

Each asks once what it was given (`given`), and hands it to a pass.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

from autoprune.errors import AutopruneError, BudgetError, BudgetWarning, PlanError, TraceError
from autoprune.ir.plan import Plan
from autoprune.passes.patterns import as_patterns
from autoprune.passes.pruning import plans
from autoprune.passes.pruning import prune as steps
from autoprune.passes.pruning.criteria import Score, find_criterion
from autoprune.passes.pruning.given import given, is_onnx
from autoprune.passes.pruning.reporting import shortfall
from autoprune.passes.pruning.request import (
    DEFAULTS,
    Budget,
    Options,
    Request,
    as_scope,
    budget_names,
    check_options,
    one_budget,
)
from autoprune.passes.pruning.result import Result, Saving
from autoprune.report import Report
from autoprune.report.progress import progress, say

if TYPE_CHECKING:
    import onnx
    from torch import nn
    from torch.fx import GraphModule

    from autoprune.frameworks.network import Network
    from autoprune.passes.lower.compiled import Compiled
    from autoprune.passes.sparsify.distribution import Distribution
    from autoprune.passes.sparsify.masks import WeightCriterion
    from autoprune.passes.sparsify.result import SparseResult
    from autoprune.passes.sparsify.specs import FormatSpec


@overload
def prune(
    model: nn.Module,
    example_inputs: Any,
    *,
    criterion: str | Score = "l2",
    only: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    outputs: int | str | Sequence[int | str] = (),
    multiple_of: int | None = None,
    seed: int = 0,
    options: Options = DEFAULTS,
    **budget: Unpack[Budget],
) -> Result[nn.Module]: ...


@overload
def prune(
    model: str | Path | onnx.ModelProto,
    example_inputs: Any = None,
    *,
    criterion: str | Score = "l2",
    only: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    outputs: int | str | Sequence[int | str] = (),
    multiple_of: int | None = None,
    seed: int = 0,
    options: Options = DEFAULTS,
    **budget: Unpack[Budget],
) -> Result[onnx.ModelProto]: ...


@overload
def prune(
    model: Network,
    *,
    criterion: str | Score = "l2",
    only: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    multiple_of: int | None = None,
    seed: int = 0,
    options: Options = DEFAULTS,
    **budget: Unpack[Budget],
) -> Result[Any]: ...


def prune(
    model: nn.Module | str | Path | onnx.ModelProto | Network,
    example_inputs: Any = None,
    *,
    criterion: str | Score = "l2",
    only: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    outputs: int | str | Sequence[int | str] = (),
    multiple_of: int | None = None,
    seed: int = 0,
    options: Options = DEFAULTS,
    **budget: Unpack[Budget],
) -> Result[Any]:
    """Return a smaller network that computes what the zeroed original computes.

    The model is traced on the example inputs, the groups of parameter slices that must go
    together are found, scored and chosen, and the model without them is checked against the
    model with them set to zero. The model passed in is not changed.

    Args:
        model: any module that `torch.export` can trace, in training or evaluation mode; or an
            ONNX model as a path or a ModelProto; or a `Network` of another framework, which brings
            its inputs.
        example_inputs: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
            For ONNX: an array, a sequence of arrays, a dict of arrays by input name, or None to
            make some up.
        criterion: `"l2"`, `"l1"`, `"random"` or another that is known by name (see
            `autoprune.criterion`), or a function from `UnitView` to one score per unit.
        only: names or patterns of modules or parameters (`"head"`, `"layer4.*"`), or of groups as
            the report prints them (`"conv1.weight:0"`). Only the groups whose units these make are
            pruned, which cuts the slices that read these units, too.
        ignore: names or patterns of the same kinds of what to leave as it is: no group that has a
            slice there is pruned.
        outputs: the outputs that matter, by position, key, field or name; empty for all. The others
            are not compared and may change shape, such as those of an auxiliary head.
        multiple_of: channel counts stay multiples of this, which processors prefer. None: of 8,
            or of less in small groups and where a budget could not be met otherwise.
        seed: for criteria that draw.
        options: everything else.
        **budget: exactly one of these. The fraction to keep: `flops`, `params` or `memory` (of the
            activations alive at the same time), each met within 1 %; `latency` of one inference in
            ONNX Runtime on this machine, met within 3 % as measured or by the largest network that
            takes less; `channels` of every group, or a dict of such by pattern (as for `only`; the
            first that matches a group counts, what none matches stays whole). Or `sizes`, a dict
            from patterns to numbers of units to keep. Or `dead=True`, to remove exactly the units
            that do not take part, because weights are zero or masked.

    Raises:
        TraceError: if the model cannot be read, does not run on the inputs, or cannot be exported.
        BudgetError: if the budget is out of range or cannot be met.
        GraphError: if a weight is not finite, or `strict` meets an unknown operator.
        NotEqualError: if the cut network does not compute what the zeroed one does.
        AutopruneError: if a name matches nothing, or there is no such criterion.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
        >>> result = prune(net, torch.zeros(1, 8), flops=0.5)
        >>> result.model[0].out_features
        32
    """
    check_options(options)
    _check_counts(
        multiple_of=1 if multiple_of is None else multiple_of, min_units=options.min_units
    )
    scope = as_scope(only, ignore, outputs)
    request = Request(
        budget=one_budget(budget, budget_names()),
        criterion=find_criterion(criterion),
        scope=scope,
        multiple_of=multiple_of,
        seed=seed,
        options=options,
    )
    with progress(options.progress):
        network = given(model, example_inputs, options.dynamic_shapes).trace(scope.outputs)
        result = steps.prune(network, request)
    if note := shortfall(request, result.report):
        result.note(note)
        if request.budget[0] != "dead":
            warnings.warn(note, BudgetWarning, stacklevel=2)
    return result


def inspect(
    model: nn.Module | str | Path | onnx.ModelProto | Network,
    example_inputs: Any = None,
    *,
    only: str | Sequence[str] = (),
    ignore: str | Sequence[str] = (),
    outputs: int | str | Sequence[int | str] = (),
    options: Options = DEFAULTS,
) -> Report:
    """What could be pruned: groups, guarantees, pinned axes and why, costs.

    The arguments are those of `prune`; the report says what `only` and `ignore` leave alone.

    Raises:
        TraceError: if the model cannot be read, does not run on the inputs, or cannot be exported.
        AutopruneError: if a name matches nothing.
    """
    check_options(options)
    scope = as_scope(only, ignore, outputs)
    with progress(options.progress):
        network = given(model, example_inputs, options.dynamic_shapes).trace(scope.outputs)
        return steps.inspect(network, scope, options)


@overload
def apply_plan(
    model: nn.Module, plan: Plan, example_inputs: Any = None, *, dynamic_shapes: Any = None
) -> nn.Module: ...


@overload
def apply_plan(
    model: str | Path | onnx.ModelProto, plan: Plan, example_inputs: Any = None
) -> onnx.ModelProto: ...


@overload
def apply_plan(model: Network, plan: Plan) -> Any: ...


@progress()
def apply_plan(
    model: nn.Module | str | Path | onnx.ModelProto | Network,
    plan: Plan,
    example_inputs: Any = None,
    *,
    dynamic_shapes: Any = None,
) -> Any:
    """A copy of `model` cut as a plan says, ready to load a pruned checkpoint into.

    Args:
        model: a fresh instance of the architecture the plan was made for, uncut; or the ONNX
            model, or the `Network` of another framework, it was made for.
        plan: a `Plan`.
        example_inputs: needed only if the pruned network is a GraphModule.
        dynamic_shapes: as given to `prune`, with example inputs.

    Raises:
        PlanError: if the plan was made for another architecture, or needs example inputs.
    """
    if not isinstance(plan, Plan):
        raise PlanError(
            f"a Plan is needed, got {type(plan).__name__}",
            hint="result.plan, or ap.Plan.load(path)",
        )
    return plans.apply_plan(given(model, example_inputs, dynamic_shapes), plan)


@progress()
def load(
    model: nn.Module, path: str | Path, example_inputs: Any = None, *, dynamic_shapes: Any = None
) -> nn.Module:
    """A copy of `model` cut and filled from a `.safetensors` file that `Result.save` wrote.

    Args:
        model: a fresh instance of the architecture, uncut; its weights do not matter.
        path: the file.
        example_inputs: needed only if the pruned network is a GraphModule.
        dynamic_shapes: as given to `prune`, with example inputs.

    Raises:
        PlanError: if the file holds no plan, or does not fit the model.
    """
    return plans.load(given(model, example_inputs, dynamic_shapes), path)


@overload
def sparsify(
    model: nn.Module | Result[nn.Module],
    example_inputs: Any = None,
    *,
    format: FormatSpec = "auto",
    sparsity: float | None = None,
    calibration: Iterable[Any] | None = None,
    ignore: str | Sequence[str] = (),
    distribution: str | Distribution = "uniform",
    criterion: str | WeightCriterion = "l2",
    rearrange: bool = False,
    dynamic_shapes: Any = None,
) -> SparseResult[nn.Module]: ...


@overload
def sparsify(
    model: str | Path | onnx.ModelProto | Result[onnx.ModelProto],
    example_inputs: Any = None,
    *,
    format: FormatSpec = "auto",
    sparsity: float | None = None,
    calibration: Iterable[Any] | None = None,
    ignore: str | Sequence[str] = (),
    distribution: str | Distribution = "uniform",
    criterion: str | WeightCriterion = "l2",
    rearrange: bool = False,
    dynamic_shapes: Any = None,
) -> SparseResult[onnx.ModelProto]: ...


@progress()
def sparsify(
    model: nn.Module | str | Path | onnx.ModelProto | Result[Any],
    example_inputs: Any = None,
    *,
    format: FormatSpec = "auto",
    sparsity: float | None = None,
    calibration: Iterable[Any] | None = None,
    ignore: str | Sequence[str] = (),
    distribution: str | Distribution = "uniform",
    criterion: str | WeightCriterion = "l2",
    rearrange: bool = False,
    dynamic_shapes: Any = None,
) -> SparseResult[Any]:
    """A copy of a network in which weights are zero, in a pattern that sparse kernels use.

    With calibration data, the weights of each layer that stay make up for those that go
    (Optimal Brain Surgeon, see `autoprune.passes.sparsify.reconstruction`), layer after layer, so
    that each also corrects what those before it changed.

    Args:
        model: a trained network, an ONNX model as a path or a ModelProto, or the result of `prune`
            or of a `Pruner`; it is not changed.
        example_inputs: as for `prune`, to save a module as ONNX and to rearrange it; those of a
            result are known.
        format: the format of all linear layers and convolutions (of two dimensions, not grouped,
            of 4 channels or more), such as `"block 32x1"`, `"2:4"` or `"fan-in"`; `"auto"` for the
            blocks of `autoprune.compile`'s kernels where they fit, `"auto int8"` for those of its
            8-bit kernels; or a dict to such from names or patterns of layers, also of other
            convolutions and shared weights, and of parameters of a module that belong to no layer
            if it ends with their own name (`"encoder.*.in_proj_weight"`). Layers of ONNX models
            have the names of their weights, and of their nodes.
        sparsity: share of the weights to remove of those whose format does not say that itself;
            None for 0.8.
        calibration: inputs to run the network on, each as `example_inputs`; some hundred samples
            of training data. Takes one pass over them for each layer.
        ignore: names or patterns of modules or parameters to leave dense.
        distribution: over the layers: `"uniform"`, `"erk"` (less of small layers) or `"global"`
            (the least important, wherever they are), or a function.
        criterion: importance of weights, `"l1"`, `"l2"` or a function of a matrix. With
            calibration it only counts for the distribution.
        rearrange: first reorder channels of a module, so that important weights share blocks; the
            network computes the same.
        dynamic_shapes: of a module, as in `Options`, for files; that of a result is known.

    Raises:
        FormatError: if a format is unknown or fits no layer, or calibration data is not finite.
        BudgetError: if the sparsity is out of range, or no format leaves it open.
        GraphError: if a weight is not finite.
        TraceError: if the model is neither a module nor an ONNX model, cannot be copied or read,
            or is to be rearranged and cannot be exported.
        AutopruneError: if a name matches nothing, or the calibration data is empty.

    Example:
        >>> result = sparsify(model, x, format="block 32x1", sparsity=0.8, calibration=[x])
        >>> print(result.report)
        >>> result.save("sparse.onnx")
    """
    from autoprune.passes.sparsify import one_shot

    patterns = as_patterns(ignore, "ignore")
    request = one_shot.Request(format, sparsity, patterns, distribution, criterion, rearrange)
    found = given(model, example_inputs, dynamic_shapes)
    return one_shot.sparsify(found, calibration, request)


@progress()
def compile(
    model: Saving | nn.Module | str | Path | onnx.ModelProto | Network,
    example_inputs: Any = None,
    *,
    target: str | Sequence[str] = "x86-64",
    int8: bool = False,
    calibration: Iterable[Any] | None = None,
    measure: bool = True,
) -> Compiled:
    """Compile a network whose weights have zeros in blocks, to be run without torch.

    Linear layers and convolutions of which at most half of the weights is stored run on sparse
    kernels, with what follows them elementwise, and so do depthwise convolutions beside them;
    everything else runs on ONNX Runtime as it is. Blocks are 8, 16, 32 or 64 outputs of a linear
    layer, or 4, 8 or 16 of a convolution, at one input; single weights of convolutions also pay if
    few of them are left.

    Args:
        model: a result of `prune`, `sparsify`, a `Pruner` or a `Sparsifier`, a module, an ONNX
            model as a path or a ModelProto, or a `Network` that can be written as ONNX.
        example_inputs: for a module as for `prune`; for ONNX arrays as for `prune`, or None to
            make some up. They and their outputs go into the artifact as test vectors.
        target: the processors to compile for: `x86-64`, `arm64`, or one of their instruction sets.
        int8: round linear layers and convolutions to 8 bits where zeros come in blocks of four
            inputs. Weights have a scale for each output, activations one for each position of a
            linear layer, or for each image of a convolution, taken when they are computed. The
            outputs differ from those of float32; how much is reported.
        calibration: inputs to run the network on, each as `example_inputs`; some dozens of samples
            of real data. With `int8`, activations of convolutions then have the scales that suit
            these, and stay 8-bit integers from one convolution to the next, which is faster.
        measure: run layers that belong together on this processor, if it is one of the targets,
            and leave those dense that are not at least 1.2 times faster. What is near that limit
            may be decided otherwise the next time; without, equal models give equal artifacts.

    Returns:
        What `save("model.apz")` writes, and `autoprune.runtime.Session` runs.

    Raises:
        TargetError: if a target is unknown, has no products of 8-bit integers where they are asked
            for, or its C compiler is not installed.
        TraceError: if the model does not run, or a module comes without example inputs.
        NotEqualError: if the compiled network does not compute what the model does.
        AutopruneError: if the calibration data is empty, or given without `int8`.
    """
    say("loading the compiler")
    from autoprune.frameworks.onnx.feeds import calibration_feeds
    from autoprune.frameworks.onnx.file import read_onnx
    from autoprune.passes.lower.compile import compile_onnx
    from autoprune.passes.lower.compile_options import CompileOptions

    options = CompileOptions((target,) if isinstance(target, str) else tuple(target), int8, measure)
    if calibration is not None and not int8:
        raise AutopruneError(
            "calibration data is for 8-bit integers", hint="give int8=True, or no calibration"
        )
    found = given(model, example_inputs)
    with tempfile.TemporaryDirectory() as folder:
        path, inputs = found.as_onnx(Path(folder))
        read = read_onnx(path).model
    feeds = None if calibration is None else calibration_feeds(read, calibration)
    return compile_onnx(read, options, inputs, found.result.origin if found.result else "", feeds)


@progress()
def to_torch(model: str | Path | onnx.ModelProto, example_inputs: Any = None) -> GraphModule:
    """An ONNX model as a module, to be trained further, pruned as a module, or exported again.

    The weights are its parameters, under their names in the ONNX model as far as Python allows,
    so a model that was exported from torch has the names of the original's `state_dict`. It takes
    the inputs in the order of the model, and returns a tensor, or a tuple if there are several
    outputs. It is in evaluation mode; in training mode batch normalization uses and updates
    statistics, and dropout drops.

    Args:
        model: a path or a ModelProto; it is not changed.
        example_inputs: as for `prune`; the module is checked against ONNX Runtime on them.

    Raises:
        TraceError: if the model cannot be read or does not run on the inputs, or an operator has
            no counterpart in torch.
        NotEqualError: if an operator does not compute what it does in ONNX Runtime.

    Example:
        >>> model = to_torch("model.onnx").train()
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    """
    if not is_onnx(model):
        raise TraceError(
            f"an ONNX model is needed, got {type(model).__name__}",
            hint="pass the path of an .onnx file, or an onnx.ModelProto",
        )
    from autoprune.frameworks.onnx.to_torch.module import import_onnx

    return import_onnx(model, example_inputs)


def _check_counts(**counts: int) -> None:
    for name, number in counts.items():
        if type(number) is not int or number < 1:
            raise BudgetError(f"{name}={number!r} is not a whole number from 1")
