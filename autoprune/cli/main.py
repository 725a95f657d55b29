"""The command line: one function for each command."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprune.cli.arguments import ONNX_SUFFIXES, SUFFIXES, parser
from autoprune.cli.imported import imported
from autoprune.errors import AutopruneError, Notice, first_line
from autoprune.ir.files import write_atomically
from autoprune.report.progress import progress, say
from autoprune.runtime.commands import COMMANDS as RUNTIME_COMMANDS
from autoprune.runtime.commands import read_arrays
from autoprune.runtime.errors import AutopruneRuntimeError
from autoprune.runtime.folders import check_free

if TYPE_CHECKING:
    from torch import nn

    from autoprune.passes.pruning.request import Options
    from autoprune.passes.pruning.result import Result
    from autoprune.report import Report

EXTRAS = {
    "torch": "torch", "safetensors": "torch", "onnx": "onnx", "onnxscript": "onnx",
    "onnxruntime": "onnx", "sklearn": "demo", "matplotlib": "demo", "tvm": "compile",
}  # fmt: skip
"""Which extra of autoprune installs a module."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if it succeeded, 1 for an error, 2 for a wrong command line, 130 if interrupted.
    """
    try:
        options = parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        with warnings.catch_warnings():
            if not options.debug:
                warnings.simplefilter("ignore")
                warnings.simplefilter("default", Notice)
                warnings.showwarning = _show_notice
            COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        else:
            print(f"error: {_explain(error)}", file=sys.stderr)
        return 1
    return 0


def _show_notice(message: Warning | str, *_: object, **__: object) -> None:
    print(f"note: {message}", file=sys.stderr)


def _explain(error: Exception) -> str:
    if isinstance(error, AutopruneError | AutopruneRuntimeError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        extra = EXTRAS[error.name]
        return f"{error.name} is not installed\n  what to do: pip install 'autoprune[{extra}]'"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}\n  where: {error.filename or 'unknown file'}"
    line = first_line(error)
    return (
        f"{type(error).__name__}: {line}\n"
        "  what to do: this is a mistake in autoprune; report it with the output of --debug"
    )


def _load(options: argparse.Namespace) -> tuple[nn.Module | Path, Any]:
    from autoprune.cli.inputs import make_arrays, parse_input

    specs = [parse_input(text) for text in options.inputs]
    if _is_onnx(options.model):
        return Path(options.model), make_arrays(specs) if specs else None
    from autoprune.cli.loading import load_model, make_inputs

    model, example = load_model(options.model)
    if specs:
        example = make_inputs(specs)
    if example is None:
        raise AutopruneError(
            "the model comes without example inputs",
            where=options.model,
            hint="give their shapes, such as --input 1x3x224x224",
        )
    if options.dynamic_shapes and any(spec.shape[0] == 1 for spec in specs):
        raise AutopruneError(
            "a batch of one is traced as always one",
            where="--dynamic-batch",
            hint="give a batch of two as example, such as --input 2x3x224x224",
        )
    return model, example


def _batches(options: argparse.Namespace) -> list[dict[str, Any]] | None:
    """The calibration data, a batch for each file."""
    files = options.calibration
    return None if files is None else [read_arrays([file]) for file in files]


def _is_onnx(model: str | Path) -> bool:
    return Path(model).suffix == ".onnx"


def _inspect(options: argparse.Namespace) -> None:
    _check_writable(_report_files(options))
    with progress():
        say("loading the model")
        model, example = _load(options)
        import autoprune

        report = autoprune.inspect(model, example, **_scope(options), options=_options(options))
    _save_report(report, options)
    _print(report, options)


def _check_suffixes(
    options: argparse.Namespace, of_onnx: Sequence[str], of_torch: Sequence[str]
) -> None:
    suffixes = of_onnx if _is_onnx(options.model) else of_torch
    for path in options.outputs:
        if path.suffix not in suffixes:
            raise AutopruneError(
                f"cannot save as {path.suffix or 'a file without suffix'}",
                where=str(path),
                hint=f"use one of {', '.join(suffixes)}",
            )


def _prune(options: argparse.Namespace) -> None:
    _check_suffixes(options, ONNX_SUFFIXES, SUFFIXES)
    plan = [options.plan] if options.plan else []
    written = [*options.outputs, *plan, *_report_files(options)]
    _check_writable(written)
    with progress():
        say("loading the model")
        model, example = _load(options)
        result = _pruned(model, example, options)
        for path in options.outputs:
            result.save(path)
        known = options.no_latency or result.report.latency is not None
        problem = "" if known else _measure(result, options.threads)
    if options.plan:
        result.plan.save(options.plan)
    _save_report(result.report, options)
    _show(result, written, problem, options)


def _pruned(model: nn.Module | Path, example: Any, options: argparse.Namespace) -> Result[Any]:
    import autoprune

    named = options.criterion
    return autoprune.prune(
        model, example,
        **_budget(options), **_scope(options),
        criterion=imported(named) if ":" in named else named,
        multiple_of=options.multiple_of, seed=options.seed, options=_options(options),
    )  # fmt: skip


def _options(options: argparse.Namespace) -> Options:
    """Those of the arguments that are called like the fields of Options."""
    from autoprune import Options

    given = vars(options)
    return Options(**{f.name: given[f.name] for f in fields(Options) if f.name in given})


def _budget(options: argparse.Namespace) -> dict[str, Any]:
    from autoprune.passes.pruning.request import budget_names

    given = {name: getattr(options, name) for name in budget_names()}
    if given["channels"] is not None:
        given["channels"] = _by_pattern(given["channels"], "--channels")
        if given["channels"].keys() == {""}:
            given["channels"] = given["channels"][""]
    if given["sizes"] is not None:
        given["sizes"] = _by_pattern(given["sizes"], "--sizes")
    return given


def _by_pattern(pairs: Sequence[tuple[str, Any]], argument: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) or (len(found) > 1 and "" in found):
        raise AutopruneError(
            "several values are given for the same groups",
            where=argument,
            hint="give one for each name or pattern, and '*=0.5' for all that is left",
        )
    return found


def _scope(options: argparse.Namespace) -> dict[str, Any]:
    return {"only": options.only, "ignore": options.ignore, "outputs": options.which_outputs}


def _measure(result: Result[Any], threads: int) -> str:
    """Add latency to the report; the files are written by now, so failing is only a remark."""
    try:
        result.measure(threads=threads)
    except (AutopruneError, ModuleNotFoundError) as error:
        return _explain(error).replace("\n", "\n  ")
    return ""


def _show(
    result: Result[Any], written: Sequence[Path], problem: str, options: argparse.Namespace
) -> None:
    _print(result.report, options)
    latency = result.report.latency
    if latency is not None and latency.speedup < 1.05 and (options.multiple_of or 8) < 16:
        print("It is hardly faster. ONNX Runtime likes even channel counts: try --multiple-of 16.")
    _show_files(written)
    if problem:
        print(f"latency was not measured: {problem}", file=sys.stderr)


def _report_files(options: argparse.Namespace) -> list[Path]:
    return [path for path in (options.report, options.html) if path]


def _save_report(report: Report, options: argparse.Namespace) -> None:
    if options.report:
        write_atomically(options.report, report.to_json().encode())
    if options.html:
        write_atomically(options.html, report.to_html(options.html.stem).encode())


def _check_writable(paths: Sequence[Path]) -> None:
    """Fail before the work, not after it."""
    for path in paths:
        folder = path.parent
        if path.is_dir():
            reason = "it is a folder"
        elif path.exists() and not path.is_file():
            reason = "it is a pipe or a device"
        elif not folder.is_dir():
            reason = "the folder does not exist"
        elif not os.access(folder, os.W_OK):
            reason = "the folder may not be written to"
        else:
            continue
        raise AutopruneError(
            f"the file cannot be written: {reason}",
            where=str(path),
            hint="create the folder, or choose another one",
        )


def _demo(options: argparse.Namespace) -> None:
    from autoprune.cli.demo import EPOCHS, demo

    demo(options.output, options.epochs or EPOCHS)


def _sparsify(options: argparse.Namespace) -> None:
    _check_suffixes(options, (".onnx",), (".onnx", ".pt2", ".safetensors"))
    _check_writable(options.outputs)
    batches = _batches(options)
    with progress():
        say("loading the model")
        model, example = _load(options)
        import autoprune

        result = autoprune.sparsify(
            model, example, format=options.format, sparsity=options.sparsity, calibration=batches,
            ignore=options.ignore, distribution=options.distribution,
            dynamic_shapes=options.dynamic_shapes,
        )  # fmt: skip
        for path in options.outputs:
            result.save(path)
    from autoprune.report import show

    show(result.report, str(result.report))
    _show_files(options.outputs)
    for path in options.outputs:
        if path.suffix == ".onnx":
            bits = " --int8" if options.format == "auto int8" else ""
            print(f"\nautoprune compile {path}{bits} -o {path.with_suffix('.apz')}")


def _print(report: Report, options: argparse.Namespace) -> None:
    from autoprune.report import show

    everything = options.everything
    show(report.table(everything=everything), report.text(everything=everything))


def _show_files(paths: Sequence[Path]) -> None:
    from autoprune.report import heading, quantity, show

    show(heading("Files"), "\nFiles")
    for path in paths:
        print(f"{path}  ({quantity(path.stat().st_size)}B)")


def _compile(options: argparse.Namespace) -> None:
    if options.output.suffix != ".apz":
        raise AutopruneError(
            "artifacts end in .apz", where=str(options.output), hint="-o small.apz"
        )
    if not _is_onnx(options.model):
        raise AutopruneError(
            "compile takes .onnx files",
            where=str(options.model),
            hint="autoprune prune and sparsify write them: -o small.onnx",
        )
    _check_writable([options.output])
    if options.source:
        check_free(options.source)
    batches = _batches(options)
    model, example = _load(options)
    with progress():
        import autoprune

        compiled = autoprune.compile(
            model, example, target=options.targets or "x86-64",
            int8=options.int8, measure=options.measure, calibration=batches,
        )  # fmt: skip
        digest = compiled.save(options.output)
        if options.source:
            compiled.save_source(options.source)
    print(compiled)
    print(f"\n{options.output}, whose digest is {digest}")
    print(f"autoprune verify {options.output} --digest {digest}")


COMMANDS = {
    "inspect": _inspect, "prune": _prune, "sparsify": _sparsify, "compile": _compile,
    "demo": _demo, **RUNTIME_COMMANDS,
}  # fmt: skip
