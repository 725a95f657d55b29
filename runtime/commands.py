"""The commands that need nothing but the runtime: `run`, `bench`, `verify` and `extract`.

They belong to `python -m autoprune_runtime`, and to `autoprune` where that is installed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DenseNotice, InputError
from .extraction import extract
from .files import open_file, replacing
from .session import Session

LARGEST_INPUTS = 2**34
"""Bytes of the arrays in an .npz file."""

EPILOG = """\
An artifact's native code is loaded only with --digest, as printed when it was compiled, or with
--trust-native; otherwise the standard model in it runs.

examples:
  %(prog)s model.apz --digest 3f1c...
"""


def add_commands(commands: Any) -> None:
    """Add the commands to those of a parser, as `argparse` calls what `add_subparsers` gives."""
    run = _command(commands, "run", "compute the outputs of an artifact on given inputs")
    bench = _command(commands, "bench", "measure how long an artifact takes")
    for parser in (run, bench):
        parser.add_argument(
            "inputs", nargs="*", metavar="ARRAYS",
            help="name=array.npy, or an .npz of all inputs; without any, the first test vector",
        )  # fmt: skip
    run.add_argument("-o", "--output", type=Path, metavar="NPZ", help="write the outputs here")
    bench.add_argument(
        "--seconds", type=_positive, default=2.0, help="how long to measure (default: 2)"
    )
    _command(commands, "verify", "check an artifact, and run its test vectors")
    extracting = _command(
        commands, "extract", "write the files of an artifact for other programs", running=False
    )
    extracting.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="a folder to be made"
    )


def _command(
    commands: Any, name: str, text: str, *, running: bool = True
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=name)
    add = parser.add_argument
    add("artifact", metavar="ARTIFACT", type=Path, help="the .apz file")
    add("--digest", metavar="HEX", help="the digest the artifact must have")
    add("--trust-native", action="store_true", help="load native code without knowing the digest")
    add("--dense", action="store_false", dest="native", help="take the standard model")
    add("--fallback", action="store_true", help="take it where the native code does not run")
    if running:
        add("--threads", type=_count, metavar="N", help="threads that may compute")
        add("--provider", action="append", dest="providers", metavar="NAME",
            help="an execution provider of ONNX Runtime; repeat it for several")  # fmt: skip
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _session(options: argparse.Namespace) -> Session:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DenseNotice)
        session = Session(
            options.artifact,
            digest=options.digest,
            trust_native=options.trust_native,
            native=options.native,
            fallback=options.fallback,
            threads=options.threads,
            providers=options.providers,
        )
    if session.notice:
        print(f"note: {session.notice}", file=sys.stderr)
    return session


def _run(options: argparse.Namespace) -> None:
    session = _session(options)
    outputs = session.run(read_arrays(options.inputs) or _first_example(session))
    if options.output:
        _save(options.output, outputs)
    for name, array in outputs.items():
        sizes = "x".join(map(str, array.shape)) or "scalar"
        print(f"{name}: {array.dtype} {sizes}{_range(array)}")


def _bench(options: argparse.Namespace) -> None:
    session = _session(options)
    print(session.benchmark(read_arrays(options.inputs) or None, seconds=options.seconds))


def _verify(options: argparse.Namespace) -> None:
    session = _session(options)
    print(f"digest {session.digest}")
    print(session.verify())


def _extract(options: argparse.Namespace) -> None:
    made = extract(
        options.artifact,
        options.output,
        digest=options.digest,
        trust_native=options.trust_native,
        native=options.native,
        fallback=options.fallback,
    )
    if made.notice:
        print(f"note: {made.notice}", file=sys.stderr)
    print(f"digest {made.digest}")
    print(f"{made.folder}: {made.backend}")


COMMANDS = {"run": _run, "bench": _bench, "verify": _verify, "extract": _extract}
"""What each command does with its parsed arguments."""


def _first_example(session: Session) -> dict[str, NDArray[Any]]:
    if not session.manifest.examples:
        raise InputError("the artifact holds no test vectors to run", hint="name inputs")
    return session.example_inputs()


def read_arrays(inputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays of inputs as they are typed: name=array.npy, or arrays.npz.

    Raises:
        InputError: if a file holds no arrays, or lacks a name for them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for text in inputs:
        name, equals, file = text.rpartition("=")
        loaded = _load(file)
        if isinstance(loaded, dict) == bool(equals):
            raise InputError(
                "an .npy file needs the name of its input, an .npz file has the names inside",
                where=text,
                hint="write name=array.npy, or arrays.npz",
            )
        arrays |= loaded if isinstance(loaded, dict) else {name: loaded}
    return arrays


def _load(path: str) -> NDArray[Any] | dict[str, NDArray[Any]]:
    """The array of an .npy file, or the arrays of an .npz file."""
    with open_file(path) as file:
        try:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            if sum(member.file_size for member in loaded.zip.infolist()) > LARGEST_INPUTS:
                raise ValueError(f"unpacked, it has more than {LARGEST_INPUTS} bytes")
            return {name: _array(loaded[name]) for name in loaded}
        except Exception as error:  # of damaged files numpy, zipfile and zlib raise many kinds
            raise InputError(f"the file holds no arrays: {error}", where=path) from error


def _array(member: Any) -> NDArray[Any]:
    if not isinstance(member, np.ndarray):
        raise ValueError("a member is no array")
    return member


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    # np.savez takes names as keywords, and has some of its own.
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _range(array: NDArray[Any]) -> str:
    if not array.size:
        return ""
    if array.size == 1:
        return f" {float(array.item()):.6g}"
    return f" from {float(array.min()):.6g} to {float(array.max()):.6g}"


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value
