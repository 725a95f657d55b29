"""What may be typed after `autoprune`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import autoprune.passes.pruning.allocation  # noqa: F401  (tells of budgets)
from autoprune import __version__
from autoprune.passes.pruning.criteria import CRITERIA
from autoprune.passes.pruning.problem import SOLVERS
from autoprune.passes.sparsify.distribution import DISTRIBUTIONS
from autoprune.runtime.commands import add_commands

SUFFIXES = (".onnx", ".pt2", ".safetensors", ".json")
ONNX_SUFFIXES = (".onnx", ".json")
"""What a pruned ONNX model can be saved as."""

MODEL = """\
MODEL is an .onnx file, a .pt2 file (torch.export.save), or module:callable,
such as net:build or package.module:Net. The callable takes no arguments and
returns the network, or the network and its example inputs as a pair; the
current folder is searched too. Pickles (.pt, .pth) are never loaded.

INPUT is [name=]shape[:dtype[:upper bound]], filled with random values, such as
1x3x224x224 or input_ids=1x128:int64:30522. It may be left out if MODEL brings
its own example inputs or is an .onnx file.

"""

EXAMPLES = {
    "inspect": (
        "net:build --input 1x3x224x224 --html net.html",
        "net.onnx --all",
    ),
    "prune": (
        "net:build --input 1x3x224x224 --flops 0.5 -o small.onnx",
        "net.pt2 --params 0.3 --multiple-of 16 -o small.pt2 -o s.onnx",
        "bert:build --input ids=1x128:int64:30522 --flops 0.7 -o b.onnx",
        "net.onnx --sizes 'layer1.*=24' -o small.onnx",
    ),
    "sparsify": ("small.onnx --sparsity 0.8 -o sparse.onnx",),
    "compile": ("sparse.onnx --target x86-64 -o small.apz",),
    "demo": ("",),
}  # fmt: skip
"""Command lines to begin with, for each command."""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="autoprune",
        description="Make a neural network smaller and faster, whatever its architecture.",
        epilog="`autoprune COMMAND --help` lists what each takes. With AUTOPRUNE_TRACE=1 in the\n"
        "environment, inspect and prune print what each step finds, on stderr.\n\n"
        + _examples(*EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"autoprune {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _inspect_parser(_command(commands, "inspect", "show what can be pruned, what not, and why"))
    _prune_parser(_command(commands, "prune", "write a smaller network"))
    _sparsify_parser(_command(commands, "sparsify", "set weights to zero, in blocks for compile"))
    _compile_parser(_command(commands, "compile", "write an artifact with sparse kernels"))
    add_commands(commands)
    _demo_parser(
        _command(commands, "demo", "train, prune and fine-tune a small network on real data")
    )
    return top


def _sparsify_parser(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL [--input INPUT] -o FILE [options]"
    _model_and_inputs(parser)
    parser.add_argument(
        "--format", default="auto",
        help="of all linear layers and convolutions: auto (the default), 'auto int8' for compile "
        "--int8, 'block 16x1', '2:4', 'fan-in', csr, ...",
    )  # fmt: skip
    parser.add_argument(
        "--sparsity", type=float, metavar="SHARE",
        help="of the weights to remove, 0.8 if it is left out",
    )  # fmt: skip
    _calibration_argument(parser, "weights that stay then make up for those that go")
    _several(parser, "--ignore", "layers to leave dense, by name or pattern", metavar="NAME")
    parser.add_argument(
        "--distribution", default="uniform", choices=tuple(DISTRIBUTIONS),
        help="over the layers: the same share of each (the default), less of small ones, or the "
        "smallest weights wherever they are",
    )  # fmt: skip
    _output_argument(parser, "sparse.onnx, or of a module also .pt2 or .safetensors")


def _compile_parser(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL -o FILE [options]"
    parser.add_argument("model", type=Path, metavar="MODEL", help="file.onnx, with zeros in blocks")
    _input_argument(parser)
    text = "processors to compile for, such as x86-64 (the default), arm64 or x86-64-v3"
    _several(parser, "--target", text, metavar="NAME", dest="targets", default=None)
    parser.add_argument(
        "--int8", action="store_true",
        help="round linear layers and convolutions to 8 bits where zeros come in blocks of four "
        "inputs",
    )  # fmt: skip
    _calibration_argument(
        parser, "with --int8, convolutions then hand 8-bit integers to each other"
    )
    parser.add_argument(
        "--no-measure", action="store_false", dest="measure",
        help="do not measure here which layers gain; all that are sparse run on sparse kernels",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the artifact: small.apz"
    )
    parser.add_argument(
        "--source", type=Path, metavar="FOLDER",
        help="also write the model with the portable C source of its operators here",
    )  # fmt: skip


def _examples(*commands: str) -> str:
    """Lines to try. Of several commands the first of each."""
    lines = [
        f"  autoprune {command} {line}".rstrip()
        for command in commands
        for line in EXAMPLES[command][: 1 if len(commands) > 1 else None]
    ]
    return "\n".join(["examples:", *lines])


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=MODEL * (name in ("inspect", "prune", "sparsify")) + _examples(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=name)
    return parser


def _several(parser: argparse._ActionsContainer, name: str, text: str, **more: Any) -> None:
    """An argument that makes a list."""
    help_text = f"{text}; may be repeated"
    parser.add_argument(name, action="append", help=help_text, **{"default": [], **more})


def _output_argument(parser: argparse._ActionsContainer, text: str) -> None:
    parser.add_argument(
        "-o", "--output", action="append", type=Path, required=True, dest="outputs", metavar="FILE",
        help=f"{text}; may be repeated",
    )  # fmt: skip


def _input_argument(parser: argparse.ArgumentParser) -> None:
    text = "shape of an input, such as 1x3x224x224"
    _several(parser, "--input", text, dest="inputs", metavar="INPUT")


def _calibration_argument(parser: argparse.ArgumentParser, purpose: str) -> None:
    parser.add_argument(
        "--calibration", nargs="+", metavar="FILE",
        help=".npz files with the arrays of all inputs, a sample or a batch of real data each; "
        + purpose,
    )  # fmt: skip


def _model_and_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="file.onnx, file.pt2 or package.module:callable"
    )
    _input_argument(parser)
    parser.add_argument(
        "--dynamic-batch", action="store_const", const="batch", dest="dynamic_shapes",
        help="trace with a first axis that varies; without, files take any batch where the network "
        "exports so, and a note says where not",
    )  # fmt: skip


def _model_arguments(parser: argparse.ArgumentParser) -> None:
    _model_and_inputs(parser)
    parser.add_argument("--strict", action="store_true", help="fail if an operator has no rule")
    parser.add_argument(
        "--probe", action="store_true",
        help="find rules for operators without one by experiments on their calls",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, metavar="JSON", help="write the whole report to this file"
    )
    parser.add_argument(
        "--html", type=Path, metavar="HTML",
        help="write the report as one page, with the network drawn, to this file",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true", dest="everything",
        help="print every group and every axis kept whole",
    )  # fmt: skip


def _budget_arguments(budget: argparse._MutuallyExclusiveGroup) -> None:
    counted = {name: f"{solver.of} to keep" for name, solver in SOLVERS.items() if solver.of}
    timed = "the time to keep: networks are timed in ONNX Runtime until one takes that"
    for name, what in (counted | {"latency": timed}).items():
        budget.add_argument(f"--{name}", type=_fraction, metavar="F", help=f"fraction of {what}")
    text = (
        "fraction of the units of every group to keep; with names or patterns of what makes the "
        "units, of their groups: the first that matches counts"
    )
    _several(budget, "--channels", text, type=_part_of, metavar="[NAME=]F", default=None)
    text = (
        "units to keep of the groups of what has this name or matches this pattern; the rest stays "
        "whole"
    )
    _several(budget, "--sizes", text, type=_size_of, metavar="NAME=N", default=None)
    budget.add_argument(
        "--dead", action="store_true",
        help="remove exactly the units that do not take part, as weights are zero or masked",
    )  # fmt: skip


def _scope_arguments(parser: argparse._ArgumentGroup) -> None:
    text = "prune only units that this module, parameter or group makes; * stands for anything"
    _several(parser, "--only", text, metavar="NAME")
    text = "a module, parameter or group to leave as it is; * stands for anything"
    _several(parser, "--ignore", text, metavar="NAME")
    text = "an output that matters, by position or name; others may change shape (default: all)"
    _several(
        parser, "--outputs", text,
        type=_position_or_name, dest="which_outputs", metavar="OUTPUT",
    )  # fmt: skip


def _choice_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--criterion",
        default="l2",
        type=_criterion,
        metavar="NAME",
        help=f"what makes a unit worth keeping: {', '.join(CRITERIA)}, or module:function, as of "
        "MODEL (default: l2)",
    )
    add(
        "--multiple-of", type=_count, metavar="N",
        help="keep channel counts multiples of N (default: 8 where that is possible; 16 suits "
        "ONNX Runtime on x86 with AVX-512)",
    )  # fmt: skip
    add(
        "--min-units", type=_count, default=1, metavar="N",
        help="units every group keeps at least (default: 1)",
    )  # fmt: skip
    add(
        "--global", action="store_const", const="global", default="uniform", dest="allocation",
        help="remove the least important units wherever they are, not the same share everywhere",
    )  # fmt: skip
    for name, what in (
        ("exact-budget", "fail if the budget cannot be met within 1 %% instead of taking the "
         "nearest"),
        ("approximate", "also prune where the function changes; the report gives the error"),
        ("uniform", "keep the same numbers of units in all repeated layers, as programs that serve "
         "language models expect"),
        ("keep-config", "prune only what the model's configuration object can describe"),
    ):  # fmt: skip
        add(f"--{name}", action="store_true", help=what)
    add(
        "--no-per-outer", action="store_false", dest="per_outer",
        help="keep the same units in every head, not the best of each",
    )  # fmt: skip
    add("--seed", type=int, default=0, help="for --criterion random (default: 0)")


def _inspect_parser(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL [--input INPUT] [options]"
    _model_arguments(parser)
    _scope_arguments(parser.add_argument_group("what counts"))


def _prune_parser(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s MODEL [--input INPUT] BUDGET -o FILE [options]"
    _model_arguments(parser)
    budgets = parser.add_argument_group("budget", "how much to keep: exactly one of these")
    _budget_arguments(budgets.add_mutually_exclusive_group(required=True))
    _scope_arguments(parser.add_argument_group("what counts"))
    _choice_arguments(parser.add_argument_group("how to choose"))
    files = parser.add_argument_group("files and measuring")
    _output_argument(files, f"file to write ({', '.join(SUFFIXES)})")
    files.add_argument(
        "--plan", type=Path, metavar="JSON", help="write which units are kept to this file"
    )
    files.add_argument(
        "--no-latency", action="store_true", help="do not measure latency in ONNX Runtime"
    )
    files.add_argument(
        "--threads", type=_count, default=1, metavar="N",
        help="threads ONNX Runtime may use while measuring (default: 1)",
    )  # fmt: skip


def _demo_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("autoprune-demo"), metavar="FOLDER",
        help="folder for the results (default: autoprune-demo)",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=_count, default=None, metavar="N",
        help="epochs of training (default: 8); fine-tuning takes half as many",
    )  # fmt: skip


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        meant = f"; if percent are meant, give {value / 100:g}" if 1 < value < 100 else ""
        raise argparse.ArgumentTypeError(f"{text} is no fraction between 0 and 1{meant}")
    return value


def _part_of(text: str) -> tuple[str, float]:
    """A pattern, which may be left out, and a fraction."""
    pattern, _, part = text.rpartition("=")
    return pattern, _fraction(part)


def _size_of(text: str) -> tuple[str, int]:
    pattern, _, size = text.rpartition("=")
    if not pattern:
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=N")
    return pattern, _count(size)


def _criterion(text: str) -> str:
    if text not in CRITERIA and ":" not in text:
        known = ", ".join(CRITERIA)
        raise argparse.ArgumentTypeError(f"{text} is none of {known}, and no module:function")
    return text


def _position_or_name(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)
