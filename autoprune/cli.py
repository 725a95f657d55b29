"""The command line: `autoprune inspect`, `autoprune prune`, `autoprune demo`."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from autoprune import __version__
from autoprune.errors import AutopruneError

if TYPE_CHECKING:
    from torch import nn

    from autoprune.result import Result

Say = Callable[[str], None]

SUFFIXES = (".onnx", ".pt2", ".safetensors", ".json")
EXTRAS = {
    "torch": "torch", "safetensors": "torch", "onnx": "onnx", "onnxscript": "onnx",
    "onnxruntime": "onnx", "sklearn": "demo", "matplotlib": "demo",
}  # fmt: skip
"""Which extra of autoprune installs a module."""

EPILOG = """\
MODEL is a .pt2 file (torch.export.save), or package.module:callable. The callable takes no
arguments and returns the network, or the network and its example inputs as a pair; the current
folder is searched too. Pickles (.pt, .pth) are never loaded.

INPUT is [name=]shape[:dtype[:upper bound]] and is filled with random values. It may be left out
if MODEL brings its own example inputs.

examples:
  autoprune inspect net:build --input 1x3x224x224
  autoprune prune net:build --input 1x3x224x224 --flops 0.5 -o small.onnx -o small.safetensors
  autoprune prune net.pt2 --params 0.3 --multiple-of 16 -o small.pt2
  autoprune prune bert:build --input input_ids=1x128:int64:30522 --flops 0.7 -o small.onnx
  autoprune demo
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if it succeeded, 1 for an error, 2 for a wrong command line, 130 if interrupted.
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        with warnings.catch_warnings():
            if not options.debug:
                warnings.simplefilter("ignore")
            options.run(options)
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


def _explain(error: Exception) -> str:
    if isinstance(error, AutopruneError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        extra = EXTRAS[error.name]
        return f"{error.name} is not installed\n  what to do: pip install 'autoprune[{extra}]'"
    line = (str(error).strip() or "no message").splitlines()[0]
    return (
        f"{type(error).__name__}: {line}\n"
        "  what to do: this is a mistake in autoprune; report it with the output of --debug"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="autoprune",
        description="Make a neural network smaller and faster, whatever its architecture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"autoprune {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _inspect_parser(_command(commands, "inspect", "show what can be pruned, what not, and why"))
    _prune_parser(_command(commands, "prune", "write a smaller network"))
    _demo_parser(
        _command(commands, "demo", "train, prune and fine-tune a small network on real data")
    )
    return parser


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=None if name == "demo" else EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="file.pt2 or package.module:callable")
    parser.add_argument(
        "--input", action="append", default=[], dest="inputs",
        help="shape of an input, such as 1x3x224x224; repeat it for several inputs",
    )  # fmt: skip
    parser.add_argument("--strict", action="store_true", help="fail if an operator has no rule")
    parser.add_argument(
        "--dynamic-batch", action="store_true", help="the first axis of every input may vary"
    )
    parser.add_argument(
        "--report", type=Path, metavar="JSON", help="write the whole report to this file"
    )


def _inspect_parser(parser: argparse.ArgumentParser) -> None:
    _model_arguments(parser)
    parser.set_defaults(run=_inspect)


def _prune_parser(parser: argparse.ArgumentParser) -> None:
    _model_arguments(parser)
    add = parser.add_argument
    budget = parser.add_mutually_exclusive_group(required=True)
    for name, what in (
        ("flops", "of the FLOPs"), ("params", "of the parameters"),
        ("channels", "of the units of every group"),
    ):  # fmt: skip
        budget.add_argument(
            f"--{name}", type=_fraction, metavar="F", help=f"fraction {what} to keep"
        )
    add("-o", "--output", action="append", required=True, type=Path, dest="outputs",
        help=f"file to write ({', '.join(SUFFIXES)}); repeat it for several")  # fmt: skip
    add("--criterion", default="l2", choices=["l2", "random"],
        help="what makes a unit worth keeping (default: l2)")  # fmt: skip
    add("--ignore", action="append", default=[], metavar="NAME",
        help="a module or parameter to leave as it is; * stands for anything; may be repeated")  # fmt: skip
    add("--multiple-of", type=_count, default=1, metavar="N",
        help="keep channel counts multiples of N (default: 1; 16 suits ONNX Runtime on x86)")  # fmt: skip
    add("--min-units", type=_count, default=1, metavar="N",
        help="units every group keeps at least (default: 1)")  # fmt: skip
    add("--global", action="store_true", dest="everywhere",
        help="remove the least important units wherever they are, not the same share everywhere")  # fmt: skip
    add("--approximate", action="store_true",
        help="also prune where the function changes; the report gives the error")  # fmt: skip
    add("--seed", type=int, default=0, help="for --criterion random (default: 0)")
    add("--plan", type=Path, metavar="JSON", help="write which units are kept to this file")
    add("--no-latency", action="store_true", help="do not measure latency in ONNX Runtime")
    add("--threads", type=_count, default=1, metavar="N",
        help="threads ONNX Runtime may use while measuring (default: 1)")  # fmt: skip
    parser.set_defaults(run=_prune)


def _demo_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("autoprune-demo"), metavar="FOLDER",
        help="folder for the results (default: autoprune-demo)",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=_count, default=None, metavar="N",
        help="epochs of training; fine-tuning takes half as many",
    )  # fmt: skip
    parser.set_defaults(run=_demo)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no fraction above 0 and up to 1")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


@contextmanager
def _progress() -> Iterator[Say]:
    """Show on a terminal what is being done and for how long."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("starting")

        def say(text: str) -> None:
            bar.reset(task, description=text)

        yield say


def _load(options: argparse.Namespace) -> tuple[nn.Module, Any]:
    from autoprune.loading import load_model, make_inputs, parse_input

    specs = [parse_input(text) for text in options.inputs]
    model, example = load_model(options.model)
    if specs:
        example = make_inputs(specs)
    if example is None:
        raise AutopruneError(
            "the model comes without example inputs",
            where=options.model,
            hint="give their shapes, such as --input 1x3x224x224",
        )
    if options.dynamic_batch and any(spec.shape[0] == 1 for spec in specs):
        raise AutopruneError(
            "a batch of one is traced as always one",
            where="--dynamic-batch",
            hint="give a batch of two as example, such as --input 2x3x224x224",
        )
    return model, example


def _inspect(options: argparse.Namespace) -> None:
    _check_writable([options.report] if options.report else [])
    with _progress() as say:
        say("loading the model")
        model, example = _load(options)
        say("tracing the model")
        import autoprune

        choices = autoprune.Options(strict=options.strict, dynamic_shapes=_dynamic(options))
        report = autoprune.inspect(model, example, options=choices)
    if options.report:
        report.save(options.report)
    Console().print(report)


def _prune(options: argparse.Namespace) -> None:
    for path in options.outputs:
        if path.suffix not in SUFFIXES:
            raise AutopruneError(
                f"cannot save as {path.suffix or 'a file without suffix'}",
                where=str(path),
                hint=f"use one of {', '.join(SUFFIXES)}",
            )
    extra = [path for path in (options.plan, options.report) if path]
    written = [*options.outputs, *extra]
    _check_writable(written)
    with _progress() as say:
        say("loading the model")
        model, example = _load(options)
        say("tracing and pruning")
        result = _pruned(model, example, options)
        for path in options.outputs:
            say(f"writing {path}")
            result.save(path)
        problem = "" if options.no_latency else _measure(result, options.threads, say)
    if options.plan:
        result.plan.save(options.plan)
    if options.report:
        result.report.save(options.report)
    _show(result, written, problem, options)


def _pruned(model: nn.Module, example: Any, options: argparse.Namespace) -> Result:
    import autoprune

    return autoprune.prune(
        model, example,
        flops=options.flops, params=options.params, channels=options.channels,
        criterion=options.criterion, ignore=options.ignore, multiple_of=options.multiple_of,
        seed=options.seed,
        options=autoprune.Options(
            approximate=options.approximate,
            min_units=options.min_units,
            allocation="global" if options.everywhere else "uniform",
            dynamic_shapes=_dynamic(options),
            strict=options.strict,
        ),
    )  # fmt: skip


def _dynamic(options: argparse.Namespace) -> str | None:
    return "batch" if options.dynamic_batch else None


def _measure(result: Result, threads: int, say: Say) -> str:
    """Add latency to the report; the files are written by now, so failing is only a remark."""
    try:
        result.measure(threads=threads, progress=say)
    except (AutopruneError, ModuleNotFoundError) as error:
        return _explain(error).replace("\n", "\n  ")
    return ""


def _show(
    result: Result, written: Sequence[Path], problem: str, options: argparse.Namespace
) -> None:
    from autoprune.report import heading, quantity

    console = Console()
    console.print(result.report)
    latency = result.report.latency
    if latency is not None and latency.speedup < 1.05 and options.multiple_of < 16:
        print(
            " It is hardly faster. ONNX Runtime is slow at uneven channel counts: "
            "try --multiple-of 16."
        )
    console.print(heading("Files"))
    for path in written:
        print(f" {path}  ({quantity(path.stat().st_size)}B)")
    if problem:
        print(f"latency was not measured: {problem}", file=sys.stderr)


def _check_writable(paths: Sequence[Path]) -> None:
    """Fail before the work, not after it."""
    for path in paths:
        folder = path.parent
        if path.is_dir():
            reason = "it is a folder"
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
    from autoprune.demo import EPOCHS, demo

    demo(options.output, options.epochs or EPOCHS)


if __name__ == "__main__":
    sys.exit(main())
