"""onnx's own test cases of single operators, each between layers, cut against zeroed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime

import autoprune as ap
from tests.conformance.onnx_networks import Feed, Sandwich, feedable
from tests.conformance.onnx_zeroing import zeroed
from tests.conformance.outcome import Outcome
from tests.tolerance import CUT, ROUNDING_HALF

TITLE = "ONNX"

INTRODUCTION = """
`onnx.backend.test`: every case of a single node, also written out in other operators where ONNX
does so. The first input that layers can make is made by a layer along each of its axes, then all
floating-point inputs; the others are constants. Every output is read by a layer along each of its
axes. Where ONNX Runtime lacks the newest version of an operator, an older one is taken. The tests
of some operators (`Conv`, `DeformConv`, `GridSample`, `QLinearConv`, `RoiAlign`) have a single
channel, of which nothing can be cut; `tests/onnx` cuts them with more.
"""

OPSETS = (24, 23, 22, 21, 20, 18, 17, 13)
"""Versions to be tried in turn where ONNX Runtime does not run that of the case."""

OLDEST = 7

ORDER = ("failed", "pruned", "no rule", "kept whole", "refused", "not applicable")
"""What of several results is said of an operator."""


@cache
def _cases() -> dict[str, list[Any]]:
    """The cases of every operator; those that write it out in others belong to it, too."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    plain = {c.name: _subject(c.model) for c in cases if "_expanded" not in c.name}
    for case in cases:
        name = case.name.split("_expanded")[0]
        found.setdefault(plain.get(name) or _subject(case.model), []).append(case)
    return found


def _subject(model: onnx.ModelProto) -> str:
    """The operator that a model is about: the one it has most of, after constants."""
    nodes = [n for n in model.graph.node if n.op_type != "Constant"] or model.graph.node
    [(name, _)] = Counter(f"{n.domain}.{n.op_type}".lstrip(".") for n in nodes).most_common(1)
    return name


def names() -> list[str]:
    """Names of all operators."""
    return sorted(_cases())


def examine(name: str, cases: int = 0) -> Outcome:
    """Prune networks around one operator, in some of its cases or in all of them."""
    every = -(-len(_cases()[name]) // cases) if cases else 1
    found = [outcome for case in _cases()[name][::every] for outcome in examine_case(case)]
    best = min(found, key=lambda outcome: ORDER.index(outcome.result))
    where = f"{best.operator}: " if best.result == "failed" else ""
    return Outcome(name, best.result, where + best.reason)


def examine_case(case: Any) -> Iterator[Outcome]:
    """What becomes of a case, for each choice of inputs that layers make."""
    inputs, outputs = case.data_sets[0]
    for fed in feedable(case.model, inputs):
        name = f"{case.name}[{', '.join(fed)}]"
        network = Sandwich(case.model, inputs, outputs, fed)
        _make_runnable(network)
        yield Outcome(name, *_attempt(network, bool(fed)))


def _make_runnable(network: Sandwich) -> None:
    """Take the newest version of the operators that ONNX Runtime runs, if it runs any."""
    standard = (o for o in network.model.opset_import if o.domain in ("", "ai.onnx"))
    entry = next(standard, None) or network.model.opset_import.add(version=OPSETS[0])
    native = entry.version = max(entry.version, OLDEST)
    for version in (native, *(v for v in OPSETS if v < native)):
        entry.version = version
        try:
            _run(network.model, network.feed)
        except Exception:
            continue
        return
    entry.version = native


def _attempt(network: Sandwich, fed: bool) -> tuple[str, str]:
    try:
        result = ap.prune(
            network.model, network.feed, channels=0.5, criterion="random", multiple_of=1
        )
    except ap.NotEqualError as error:
        drawn = "draws random numbers" in error.what
        return "refused" if drawn else "failed", str(error)
    except ap.AutopruneError as error:
        return "refused", error.what
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    try:
        expected = _run(zeroed(network.model, result.model, result.plan), network.feed)
        gap = difference(expected, _run(result.model, network.feed))
    except Exception as error:
        return "failed", f"cut or zeroed: {type(error).__name__}: {error}"
    if gap > (ROUNDING_HALF if network.narrow else CUT):
        return "failed", f"cut and zeroed differ by {gap:.1e}"
    if not fed:
        return "not applicable", "no tensor goes in"
    if any(not name.startswith("beside.") for name in result.plan.parameters):
        return "pruned", ""
    if result.report.unknown_operators:
        return "no rule", ", ".join(op.name for op in result.report.unknown_operators)
    rows = (*result.report.pinned, *result.report.groups)
    reasons = [row.reason for row in rows if not row.name.startswith("beside.")]
    own = [reason for reason in reasons if not reason.startswith(("graph input", "graph output"))]
    return "kept whole", next(iter([*own, *reasons]), "what goes in has no axis to cut")


def _run(model: onnx.ModelProto, feed: Feed) -> list[Any]:
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Any] = session.run(None, feed)
    return results


def difference(expected: Any, got: Any) -> float:
    """Largest difference relative to the largest number; infinite where they do not match."""
    if isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            return np.inf
        return max((difference(a, b) for a, b in zip(expected, got, strict=True)), default=0.0)
    a, b = np.asarray(expected), np.asarray(got)
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    if a.dtype.kind in "OUS":
        return 0.0 if (a == b).all() else np.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a)
    if (
        not np.array_equal(a[~finite], b[~finite], equal_nan=True)
        or not np.isfinite(b[finite]).all()
    ):
        return np.inf
    scale = max(np.abs(a)[finite].max(initial=0), np.finfo(np.float32).tiny)
    return float(np.abs(a - b)[finite].max(initial=0) / scale)
