"""The ONNX operators, with onnx's own test inputs: networks around them, pruned and compared."""

from __future__ import annotations

import json
import warnings
from collections import Counter
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
Every case of `onnx.backend.test` for a single node.
"""


@cache
def _cases() -> dict[str, list[Any]]:
    """The cases of every operator; those that write it out in others belong to it, too."""
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, list[Any]] = {}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    plain = {c.name: _subject(c) for c in cases if "_expanded" not in c.name}
    for case in cases:
        name = case.name.split("_expanded")[0]
        found.setdefault(plain.get(name) or _subject(case), []).append(case)
    return found


def _subject(case: Any) -> str:
    """The operator that a case is about: the one it has most of, after constants."""
    ops = [
        f"{n.domain}.{n.op_type}".removeprefix(".")
        for n in case.model.graph.node
        if n.op_type != "Constant" or len(case.model.graph.node) == 1
    ]
    return Counter(ops).most_common(1)[0][0]


def names() -> list[str]:
    return sorted(_cases())


def examine(operator: str) -> Outcome:
    outcomes = [o for case in _cases()[operator] for o in examine_case(case)]
    for result in ("failed", "pruned", "no rule", "kept whole", "refused", "not applicable"):
        some = [o for o in outcomes if o.result == result]
        if some:
            return Outcome(operator, result, some[0].reason)
    raise AssertionError


def examine_case(case: Any) -> list[Outcome]:
    """What becomes of a case for each choice of inputs that layers feed."""
    inputs, outputs = case.data_sets[0]
    return [_examine(case, inputs, outputs, fed) for fed in feedable(case.model, inputs)]


def _examine(case: Any, inputs: Any, outputs: Any, fed: list[str]) -> Outcome:
    name = f"{case.name}[{','.join(fed)}]"
    built = Sandwich(case.model, inputs, outputs, fed)
    try:
        result = ap.prune(built.model, built.feed, channels=0.5, criterion="random", multiple_of=1)
    except ap.NotEqualError as error:
        return Outcome(name, "failed", str(error))
    except ap.AutopruneError as error:
        return Outcome(name, "refused", str(error))
    except Exception as error:
        return Outcome(name, "failed", f"{type(error).__name__}: {error}")
    plan = json.loads(result.plan.to_json())
    around = [n for n in plan["parameters"] if not n.startswith("beside.")]
    try:
        with np.errstate(all="ignore"):
            small = zeroed(built.model, result.model, plan)
        expected = _run(small, built.feed)
    except Exception as error:
        return Outcome(name, "failed", f"zeroed: {type(error).__name__}: {error}")
    try:
        got = _run(result.model, built.feed)
    except Exception as error:
        return Outcome(name, "failed", f"cut: {type(error).__name__}: {error}")
    gap = _gap(expected, got)
    if not gap < (ROUNDING_HALF if "16" in name else CUT):
        return Outcome(name, "failed", f"cut and zeroed differ by {gap:.2g}")
    if around:
        return Outcome(name, "pruned")
    if result.report.unknown_operators:
        return Outcome(name, "no rule", result.report.unknown_operators[0].name)
    reasons = [
        r.reason
        for r in (*result.report.pinned, *result.report.groups)
        if not r.name.startswith("beside")
    ]
    reason = next((r for r in reasons if "graph" not in r), "") or "nothing is fed"
    return Outcome(name, "kept whole", reason)


def _run(model: onnx.ModelProto, feed: Feed) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Any] = session.run(None, feed)
    return results


def _gap(expected: Any, got: Any) -> float:
    """Largest difference relative to the largest number; infinite where they do not match."""
    if isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            return np.inf
        return max((_gap(a, b) for a, b in zip(expected, got, strict=True)), default=0.0)
    a, b = np.asarray(expected), np.asarray(got)
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    if a.dtype.kind in "OUS":
        return 0.0 if (a == b).all() else np.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    return float(
        np.abs(a - b)[finite].max(initial=0) / max(np.abs(a)[finite].max(initial=0), 1e-30)
    )
