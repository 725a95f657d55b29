"""Result: the pruned model, how it came about, and how to keep it."""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from autoprune.errors import AutopruneError, Notice
from autoprune.frameworks.network import Files
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.timing import time_in_turns
from autoprune.ir.plan import Plan
from autoprune.report import Report
from autoprune.report import progress as telling
from autoprune.report.notebook import report_html
from autoprune.report.progress import Progress, say
from autoprune.report.tables import summary

Model = TypeVar("Model")


class Saving(ABC):
    """A network, its model, of which files of several formats can be made."""

    model: Any
    _files: Files

    @property
    def external(self) -> bool:
        """Whether tensors go into a file of their own in ONNX."""
        return self._files.external

    def save(self, path: str | Path) -> Path:
        """Write the network; the suffix chooses the format.

        The batch (the first axis of all inputs) may vary in `.onnx` and `.pt2` files of a torch
        module, if the network exports so and nothing else was asked for by `dynamic_shapes`;
        an `Notice` says so if it may not.

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
                f"cannot save as {target.suffix or 'a file without suffix'}",
                where=str(target),
                hint=f"use one of {', '.join(writers)}",
            )
        try:
            with telling.progress():
                say(f"writing {target.name}")
                fixed = writers[target.suffix](target)
        except OSError as error:
            raise AutopruneError(
                f"the file cannot be written: {error.strerror or error}",
                where=str(target),
                hint="check that the folder exists and may be written to",
            ) from error
        if fixed:
            warnings.warn(
                f"{target.name} takes inputs of the sizes of the example inputs only: {fixed}",
                Notice,
                stacklevel=2,
            )
        return target

    @abstractmethod
    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        """What writes each format, by suffix; it says why a file's batch does not vary."""

    def write_fixed(self, path: Path) -> None:
        """Write the network as ONNX for inputs of the sizes of the example inputs."""
        self._files.write_fixed(self.model, path)

    def feed(self, session: Any) -> Feed:
        """The example inputs, by the names of the inputs of a session of the saved model."""
        return self._files.feed(session)

    def example(self) -> tuple[Any, Any]:
        """The example inputs, and the dynamic shapes that were asked for."""
        return self._files.example()

    @property
    @abstractmethod
    def origin(self) -> str:
        """Digest of the graph that the network was pruned from, or nothing."""


@dataclass(repr=False)
class Result(Saving, Generic[Model]):
    """What `prune` returns.

    `save` writes `.json` (the plan alone), of ONNX models `.onnx` (with the tensors in a file
    `.onnx.data` beside it if that is how the model was kept or if it needs more than 2 GB), and of
    torch modules `.onnx` (exported, and compared with torch in ONNX Runtime before it is written),
    `.pt2` (a `torch.export` program) and `.safetensors` (the weights and the plan, for
    `autoprune.load`).

    Attributes:
        model: the pruned network: an independent trainable module, or a ModelProto.
        plan: which units of which groups stay.
        report: costs, groups, pinned axes; prints as a table.
    """

    model: Model
    plan: Plan
    report: Report
    _files: Files = field(repr=False)
    _original: Any = field(repr=False)

    def __repr__(self) -> str:
        own = {"same class": ", of the model's own class"}.get(self.report.module, "")
        title = f"{type(self).__name__}: {type(self.model).__name__}{own}"
        return "\n".join([title, *summary(self.report, result=True)])

    def _repr_html_(self) -> str:
        inputs = ", ".join(self.report.inputs)
        return report_html(
            self.report, f"{type(self).__name__}: {type(self.model).__name__}, on {inputs}"
        )

    @property
    def origin(self) -> str:
        """Digest of the graph that the network was pruned from."""
        return self.plan.origin

    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        return {**self._files.writers(self.model, self.plan), ".json": self.plan.save}

    def note(self, text: str) -> None:
        """Add a sentence to the report."""
        self.report = dataclasses.replace(self.report, notes=(*self.report.notes, text))

    def measure(
        self,
        *,
        threads: int = 1,
        seconds: float = 2.0,
        progress: Progress = "auto",
    ) -> Report:
        """Measure latency before and after in ONNX Runtime and add it to the report.

        Args:
            threads: threads ONNX Runtime may use.
            seconds: how long to measure.
            progress: as in `Options`.
        """
        with telling.progress(progress):
            say("opening the original network in ONNX Runtime")
            original = self._files.open(self._original, threads)
            say("opening the pruned network in ONNX Runtime")
            pruned = self._files.open(self.model, threads)
            say("measuring latency")
            latency = time_in_turns(original, pruned, threads=threads, seconds=seconds)
        self.report = dataclasses.replace(self.report, latency=latency)
        return self.report
