"""What a user asks of a call that prunes: a budget, what it may touch, and choices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from autoprune.errors import AutopruneError, BudgetError
from autoprune.passes.patterns import as_patterns, nearest
from autoprune.passes.pruning.criteria import CRITERIA, Criterion
from autoprune.passes.pruning.problem import SOLVERS, TOLERANCE
from autoprune.report.progress import Progress
from autoprune.report.step_trace import Trace


class CostBudget(TypedDict, total=False):
    """A cost that the analysis can foresee; the fraction of it to keep.

    Attributes:
        flops: of the FLOPs, met within 1 %; a multiply-add counts two, so of the MACs as well.
        params: of the parameters, met within 1 %.
        memory: of the bytes of activations alive at the same time, met within 1 %.
        channels: of the units of every group; or by pattern, of those of the groups that it
            matches, where the first that matches counts and what none matches stays whole.
        groups: of the units of all groups together, met exactly.
    """

    flops: float | None
    params: float | None
    memory: float | None
    channels: float | Mapping[str, float] | None
    groups: float | None


class Budget(CostBudget, total=False):
    """What `prune` is to keep; exactly one is given.

    Attributes:
        latency: of the time that one inference takes in ONNX Runtime on this machine. Networks
            are pruned and measured until one is found that meets it within 3 %, or the largest
            that takes less.
        sizes: numbers of units to keep, by pattern: of the groups that it matches, where the
            first that matches counts; all other groups stay whole.
        dead: if true, all that does not take part: units whose removal changes nothing, because
            the weights that make or that read them are zero or masked.
    """

    latency: float | None
    sizes: Mapping[str, int] | None
    dead: bool | None


@dataclass(frozen=True)
class Options:
    """Choices that rarely change.

    Attributes:
        approximate: also prune groups whose removal changes the function (units normalized
            together); the report gives the measured error.
        min_units: units of a group that stay at least.
        allocation: `uniform` removes the same share of every group, `global` the lowest scores
            wherever they are (for criteria, relative to the mean of their group). None: uniform
            for criteria, global for learners.
        keep_class: return a network of the model's own class where possible, otherwise a
            GraphModule. Groups that its forward cannot follow are left alone, unless that is
            more than three quarters of the reduction.
        keep_config: prune only to sizes that the model's configuration object can state, so that
            `from_pretrained` loads what `save_pretrained` writes; layers shrink alike. An error if
            the budget cannot be met so.
        dynamic_shapes: None (the network is pruned on inputs of fixed sizes, and saved for any
            batch if it exports so), `"batch"` (it has to be traced so), `"fixed"`, or what
            `torch.export.export` takes.
        strict: an operator without a rule is an error instead of pinning what it touches.
        probe: find rules for operators without one by experiments on their calls.
        per_outer: where a group occurs only under another axis, such as the width of heads under
            the heads, keep the best units of each unit of that axis; otherwise the same for all.
        uniform: groups that play the same role in repeated layers keep the same number of units,
            as programs that serve language models expect; if one of them cannot shrink, none does.
        exact_budget: a budget that cannot be met within 1 %, because groups shrink in steps too
            large for that, is an error; otherwise the nearest reachable is taken, with a warning.
        threads: threads that ONNX Runtime may use where latency is the budget.
        progress: called with each step, such as `print`; None for silence; `"auto"` for a spinner
            on a terminal, or in a notebook, for what takes more than two seconds. Calls without
            options show the same; `with ap.progress(None):` silences them.
        trace: where to print what each step found, with the graph: a function, an open file, True
            for stderr, False for nowhere. None: stderr if `AUTOPRUNE_TRACE=1` is set.
    """

    approximate: bool = False
    min_units: int = 1
    allocation: Literal["uniform", "global"] | None = None
    keep_class: bool = True
    keep_config: bool = False
    dynamic_shapes: Any = None
    strict: bool = False
    probe: bool = False
    per_outer: bool = True
    uniform: bool = False
    exact_budget: bool = False
    threads: int = 1
    progress: Progress = field(default="auto", repr=False)
    trace: Trace = field(default=None, repr=False)


DEFAULTS = Options()


def check_options(options: object) -> None:
    """Refuse what is no `Options`, such as a dict, with a TypeError."""
    if not isinstance(options, Options):
        raise TypeError(
            f"options takes ap.Options(...), not {type(options).__name__}: "
            "such as options=ap.Options(approximate=True)"
        )


@dataclass(frozen=True)
class Scope:
    """The part of a network that a call is about.

    Attributes:
        only: names or patterns of modules, parameters or groups: groups whose units these make
            are pruned, and no others; empty for all.
        ignore: of modules, parameters or groups to leave as they are.
        outputs: the outputs that matter, by position or name; empty for all.
    """

    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    outputs: tuple[int | str, ...] = ()


WHOLE = Scope()


def as_scope(only: Any = (), ignore: Any = (), outputs: Any = ()) -> Scope:
    """A scope of what users write: one name, or several; AutopruneError for anything else."""
    several = isinstance(outputs, Iterable) and not isinstance(outputs, str)
    wanted = tuple(outputs) if several else () if outputs is None else (outputs,)
    for output in wanted:
        if isinstance(output, bool) or not isinstance(output, int | str):
            raise AutopruneError(
                f"outputs={output!r} is neither a position nor a name",
                hint='such as outputs=0, outputs="logits" or outputs=["logits", "boxes"]',
            )
    return Scope(as_patterns(only, "only"), as_patterns(ignore, "ignore"), wanted)


@dataclass(frozen=True)
class Request:
    """What a user asks of `prune`, for the meaning see there.

    Attributes:
        budget: what is counted (`flops`, `params`, `memory`, `channels`, `groups`, `sizes` or
            `dead`), and how much of it to keep.
        criterion: scores the units of a group.
        scope: the part of the network that it is about.
        multiple_of: channel counts stay multiples of this; None to choose.
        seed: for criteria that draw.
        options: everything else.
        tolerance: how far from the budget the result may be, as a share of the full cost.
    """

    budget: tuple[str, Any]
    criterion: Criterion = CRITERIA["l2"]
    scope: Scope = WHOLE
    multiple_of: int | None = None
    seed: int = 0
    options: Options = DEFAULTS
    tolerance: float = TOLERANCE


def budget_names() -> tuple[str, ...]:
    """The budgets that `prune` takes, those from outside the package among them."""
    return tuple(dict.fromkeys((*Budget.__annotations__, *SOLVERS)))


def one_budget(keywords: Mapping[str, Any], budgets: Collection[str]) -> tuple[str, Any]:
    """The only one of these budgets among the keywords of a call, with its name.

    None, and False for `dead`, count as not given.

    Raises:
        TypeError: if another keyword is given.
        BudgetError: if no budget or several are given.
    """
    if unknown := sorted(keywords.keys() - set(budgets)):
        raise TypeError(
            f"unexpected keywords: {', '.join(unknown)} ({_meant(unknown[0], budgets)})"
        )
    given = {name: keywords[name] for name in budgets if keywords.get(name) is not None}
    if given.get("dead") is False:
        del given["dead"]
    if len(given) != 1:
        raise BudgetError(
            f"give one budget, not {len(given)}" + (f": {', '.join(given)}" if given else ""),
            hint=", ".join(_EXAMPLES.get(name, f"{name}=0.5") for name in budgets)
            + ": the fraction to keep, a number of units to keep, or what is dead already",
        )
    ((name, value),) = given.items()
    if name == "dead" and value is not True:
        raise BudgetError(f"dead={value!r} is not a choice", hint="dead=True removes what is dead")
    return name, value


def _meant(keyword: str, budgets: Collection[str]) -> str:
    """What to write instead of a keyword that there is not."""
    if keyword in Options.__dataclass_fields__:
        return f"it is one of the Options: options=ap.Options({keyword}=...)"
    return nearest(keyword, budgets).strip() or f"budgets are {', '.join(budgets)}"


_EXAMPLES = {"sizes": 'sizes={"layer1.*": 24}', "dead": "dead=True"}
