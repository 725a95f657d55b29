"""Running an artifact.

session = Session("model.apz", digest="3f1c...")
outputs = session.run({"x": x})
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .archive import open_archive
from .arrays import Arrays, check_inputs, load_arrays
from .choice import start_chosen
from .engine import Provider
from .errors import ArtifactError, DenseNotice, InputError, NotEqualError
from .latency import Latency, measure
from .manifest import Manifest, TensorSpec
from .native import first_line
from .verification import Difference, Verification, largest_difference


class Session:
    """An artifact, checked and ready to run. Several threads may run it at once.

    An artifact holds native code, and loading it is running an unknown program. That is done only
    for an artifact that has the `digest` printed when it was compiled, or on `trust_native`.
    Otherwise the standard model in it runs, and a `DenseNotice` is warned of.

    Args:
        path: the `.apz` file. It is not needed any more once the session is there.
        digest: the digest the artifact must have, 64 hexadecimal digits.
        trust_native: load the native code without knowing the digest.
        native: whether to run native code at all.
        fallback: where the native code does not run, run the standard model rather than raise.
        threads: how many threads may compute; ONNX Runtime's own choice if left out.
        providers: ONNX Runtime's execution providers, the preferred first; the CPU if left out.

    Attributes:
        manifest: what the artifact says about itself.
        digest: its digest.
        backend: what runs: `native` and the library's label, or `dense` for the standard model.
        notice: why the standard model runs although there is native code, or None.

    Raises:
        ArtifactError: if the file is no artifact, is damaged or tampered with.
        TargetError: if this machine or its ONNX Runtime cannot run it.
        OSError: if the file cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        digest: str | None = None,
        trust_native: bool = False,
        native: bool = True,
        fallback: bool = False,
        threads: int | None = None,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        with open_archive(path, digest) as archive:
            self.manifest: Manifest = archive.manifest
            self.digest: str = archive.digest
            started = start_chosen(
                archive,
                trusted=trust_native or digest is not None,
                native=native,
                fallback=fallback,
                threads=threads,
                providers=providers,
            )
        self._session, self._stored = started.session, started.stored
        self.backend: str = started.backend
        self.notice: str | None = started.notice
        if self.notice:
            warnings.warn(self.notice, DenseNotice, stacklevel=2)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the network takes."""
        return self.manifest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the network returns."""
        return self.manifest.outputs

    def __repr__(self) -> str:
        inputs, outputs = ("; ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"<Session, {self.backend}, {inputs} -> {outputs}>"

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """The outputs of the network, by name.

        Args:
            inputs: an array for every input, by name, of the dtype and shape in `self.inputs`.

        Raises:
            InputError: if an input is missing, unknown, or has another dtype or shape, or ONNX
                Runtime fails on the values.
        """
        check_inputs(inputs, self.inputs)
        names = [spec.name for spec in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot run the network on these inputs: {first_line(error)}"
            ) from error

    def verify(self) -> Verification:
        """Run the test vectors in the artifact, and compare the outputs.

        Raises:
            NotEqualError: if an output is off by more than the artifact's tolerance.
            ArtifactError: if there are no test vectors.
        """
        if not self.manifest.examples:
            raise ArtifactError("the artifact holds no test vectors")
        rows = []
        for index, example in enumerate(self.manifest.examples):
            found = self.run(self.example_inputs(index))
            expected = load_arrays(example.outputs, self.outputs, self._stored)
            for name, array in expected.items():
                limits = largest_difference(found[name], array, self.manifest.tolerance)
                rows.append(Difference(index, name, *limits))
        for row in rows:
            if not row.passed:
                raise NotEqualError(
                    f"on this machine the network gives other outputs than when it was compiled "
                    f"({row})",
                    where=f"{self.backend}, test vector {row.example}",
                    hint="run the standard model with native=False (--dense), and report this",
                )
        return Verification(self.backend, tuple(rows))

    def example_inputs(self, index: int = 0) -> dict[str, NDArray[Any]]:
        """The inputs of a test vector.

        Raises:
            IndexError: if there is no such test vector.
        """
        example = self.manifest.examples[index]
        return load_arrays(example.inputs, self.inputs, self._stored)

    def benchmark(self, inputs: Arrays | None = None, *, seconds: float = 2.0) -> Latency:
        """How long a run takes.

        Args:
            inputs: as for `run`; the first test vector if left out.
            seconds: how long to measure, after warming up.

        Raises:
            InputError: as `run`, or if there is neither an input nor a test vector.
        """
        if inputs is None:
            if not self.manifest.examples:
                raise InputError("the artifact holds no test vectors to run", hint="pass inputs")
            inputs = self.example_inputs()
        self.run(inputs)
        names, feed = [spec.name for spec in self.outputs], dict(inputs)
        shapes = ", ".join(
            f"{name}: {array.dtype}[{','.join(map(str, array.shape))}]"
            for name, array in feed.items()
        )
        return measure(lambda: self._session.run(names, feed), self.backend, shapes, seconds)
