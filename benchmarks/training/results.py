"""The file of results: a line for each run, written as soon as the run is done."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        score: accuracy in percent, or perplexity, of the final network on the test examples.
        flops: share of the dense network's that is left.
        params: the same of its parameters.
        epochs: trained, in all.
        seconds: processor time of training, with the tests after each epoch.
        curve: epochs done and the score then.
    """

    score: float
    flops: float
    params: float
    epochs: float
    seconds: float
    curve: tuple[tuple[float, float], ...]


Answer = Outcome | str
"""A result, or why there is none."""


def read_results(path: Path) -> dict[str, Answer]:
    """Results by name of run; none if the file does not exist."""
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    return {name: row if isinstance(row, str) else _outcome(row) for name, row in stored.items()}


def _outcome(row: Mapping[str, object]) -> Outcome:
    curve = tuple((epoch, score) for epoch, score in row["curve"])
    return Outcome(**{**row, "curve": curve})


def record(path: Path, name: str, answer: Answer) -> None:
    """Add a result to those that other processes may be adding at the same time."""
    with _locked(path.parent):
        answers = {**read_results(path), name: answer}
        temporary = path.with_suffix(".new")
        temporary.write_text(
            "{\n" + ",\n".join(_line(n, answers[n]) for n in sorted(answers)) + "\n}\n"
        )
        temporary.replace(path)


def _line(name: str, answer: Answer) -> str:
    row = answer if isinstance(answer, str) else dataclasses.asdict(answer)
    return f"{json.dumps(name)}: {json.dumps(_rounded(row))}"


def _rounded(value: object) -> object:
    """Numbers as they are worth reading."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_rounded(inner) for inner in value]
    return value


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among the processes that lock this folder."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
