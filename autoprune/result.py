"""Result: the pruned model, how it came about, and how to keep it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from autoprune.backends.latency import Timed, time_in_turns
from autoprune.errors import AutopruneError
from autoprune.frontends.sessions import Feed
from autoprune.ir.plan import Plan
from autoprune.report import Report

Model = TypeVar("Model")


class Saving(ABC):
    """Something that files of several formats can be made of."""

    def save(self, path: str | Path) -> Path:
        """Write the network; the suffix chooses the format.

        Returns:
            The path written.

        Raises:
            AutopruneError: if the suffix is unknown, the path cannot be written, or the export
                fails; an existing file is left as it was.
        """
        target = Path(path)
        writers = self._writers()
        if target.suffix not in writers:
            raise AutopruneError(
                f"cannot save as {target.suffix or 'a file without suffix'!r}",
                where=str(target),
                hint=f"use one of {', '.join(writers)}",
            )
        try:
            writers[target.suffix](target)
        except OSError as error:
            raise AutopruneError(
                f"the file cannot be written: {error.strerror or error}",
                where=str(target),
                hint="check that the folder exists and may be written to",
            ) from error
        return target

    @abstractmethod
    def _writers(self) -> Mapping[str, Callable[[Path], object]]:
        """What writes each format, by suffix."""

    @abstractmethod
    def feed(self, session: Any) -> Feed:
        """The example inputs, by the names of the inputs of a session of the saved model."""

    @property
    @abstractmethod
    def origin(self) -> str:
        """Digest of the graph that the network was pruned from, or nothing."""


@dataclass
class Result(Saving, Generic[Model]):
    """What `prune` returns.

    Attributes:
        model: the pruned network, in the framework that the model came in.
        plan: which units of which groups stay.
        report: costs, groups, pinned axes; prints as a table.
    """

    model: Model
    plan: Plan
    report: Report

    @property
    def origin(self) -> str:
        """Digest of the graph that the network was pruned from."""
        return self.plan.origin

    def note(self, text: str) -> None:
        """Add a sentence to the report."""
        self.report = dataclasses.replace(self.report, notes=(*self.report.notes, text))

    def measure(
        self,
        *,
        threads: int = 1,
        seconds: float = 2.0,
        progress: Callable[[str], object] = lambda _: None,
    ) -> Report:
        """Measure latency before and after in ONNX Runtime and add it to the report.

        Args:
            threads: threads ONNX Runtime may use.
            seconds: how long to measure.
            progress: called with what is being done.
        """
        progress("opening the original network in ONNX Runtime")
        return self.measure_against(
            self.open_original(threads), threads=threads, seconds=seconds, progress=progress
        )

    def measure_against(
        self,
        original: Timed,
        *,
        threads: int,
        seconds: float = 2.0,
        progress: Callable[[str], object] = lambda _: None,
    ) -> Report:
        """As `measure`, with an original that is open already, in a session of as many threads."""
        progress("opening the pruned network in ONNX Runtime")
        pruned = self.open_pruned(threads)
        progress("measuring latency")
        latency = time_in_turns(original, pruned, threads=threads, seconds=seconds)
        self.report = dataclasses.replace(self.report, latency=latency)
        return self.report

    @abstractmethod
    def open_original(self, threads: int) -> Timed:
        """The original network in a session of ONNX Runtime, and its example inputs."""

    @abstractmethod
    def open_pruned(self, threads: int) -> Timed:
        """The pruned network in a session of ONNX Runtime, and its example inputs."""
