"""Make a neural network smaller and faster, whatever its architecture.

    import autoprune as ap

    result = ap.prune(model, example_inputs, flops=0.5)

Importing this package loads no framework: a public name is imported from its module on first use.
"""

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from autoprune.errors import (
    ArtifactError,
    AutopruneError,
    BudgetError,
    BudgetWarning,
    FormatError,
    GraphError,
    LearnerError,
    NotEqualError,
    Notice,
    PlanError,
    RuleError,
    TargetError,
    TraceError,
)

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "AutopruneError",
    "BudgetError",
    "BudgetWarning",
    "FormatError",
    "GraphError",
    "LearnerError",
    "NotEqualError",
    "Notice",
    "Options",
    "Plan",
    "PlanError",
    "Pruner",
    "Result",
    "RuleError",
    "Sparsifier",
    "State",
    "TargetError",
    "TraceError",
    "apply_plan",
    "compile",
    "criterion",
    "forget_criterion",
    "forget_rule",
    "inspect",
    "load",
    "progress",
    "prune",
    "rule",
    "sparsify",
    "to_torch",
]

# A public name belongs in three places: __all__, this table, and the imports for type checkers.
_MODULE_OF = {
    "Options": "autoprune.passes.pruning.request",
    "Plan": "autoprune.ir.plan",
    "Pruner": "autoprune.passes.learners.pruner",
    "Result": "autoprune.passes.pruning.result",
    "Sparsifier": "autoprune.passes.learners.sparsifier",
    "State": "autoprune.ops.views",
    "apply_plan": "autoprune.api",
    "compile": "autoprune.api",
    "criterion": "autoprune.passes.pruning.criteria",
    "forget_criterion": "autoprune.passes.pruning.criteria",
    "forget_rule": "autoprune.ops.custom",
    "inspect": "autoprune.api",
    "load": "autoprune.api",
    "progress": "autoprune.report.progress",
    "prune": "autoprune.api",
    "rule": "autoprune.ops.custom",
    "sparsify": "autoprune.api",
    "to_torch": "autoprune.api",
}

if TYPE_CHECKING:
    from autoprune.api import apply_plan, compile, inspect, load, prune, sparsify, to_torch
    from autoprune.ir.plan import Plan
    from autoprune.ops.custom import forget_rule, rule
    from autoprune.ops.views import State
    from autoprune.passes.learners.pruner import Pruner
    from autoprune.passes.learners.sparsifier import Sparsifier
    from autoprune.passes.pruning.criteria import criterion, forget_criterion
    from autoprune.passes.pruning.request import Options
    from autoprune.passes.pruning.result import Result
    from autoprune.report.progress import progress
else:
    # Hidden from type checkers, for which it would make every misspelt name valid.
    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_MOVED = {
    "autoprune.learners": "autoprune.passes.learners",
    "autoprune.sparsity": "autoprune.passes.learners.masks",
}


class _Moved(MetaPathFinder, Loader):
    """Imports of documented modules by the names that they had."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        new = _MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {new} now", DeprecationWarning, stacklevel=2)
        there = importlib.import_module(new)
        vars(module).update((public, getattr(there, public)) for public in there.__all__)


sys.meta_path.append(_Moved())
