"""Starting ONNX Runtime on a model of an artifact."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from .archive import Archive
from .errors import ArtifactError, TargetError
from .manifest import Library, Manifest
from .native import first_line, register_library
from .self_contained import check_self_contained

Provider = str | tuple[str, dict[str, Any]]
"""An execution provider of ONNX Runtime by name, or with its options."""

SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""Optimizers of ONNX Runtime that make networks slower on CPUs: its fused addition and layer
normalization takes longer than the two operators."""

# How ONNX Runtime calls the dtypes it does not call as numpy does.
_DTYPES = {"float": "float32", "double": "float64"}


def start(
    archive: Archive,
    library: Library | None,
    threads: int | None,
    providers: Sequence[Provider] | None,
) -> tuple[Any, dict[str, bytes]]:
    """An `onnxruntime.InferenceSession`, and the members that test vectors are in.

    Args:
        archive: the artifact; all of it is checked.
        library: the library to load and to run `Manifest.model` with, or None for
            `Manifest.dense`. Whoever passes one trusts it.
        threads: how many threads may compute, or None for ONNX Runtime's own choice.
        providers: execution providers, or None for the CPU.

    Raises:
        ArtifactError: if the artifact is damaged, or the model is not what the manifest states.
        TargetError: if the library, or ONNX Runtime, cannot run the model here.
    """
    onnxruntime = _import_onnxruntime(archive.manifest.onnxruntime)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # Otherwise what the bytes look like decides.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads={threads} is less than 1")
        options.intra_op_num_threads = threads
    chosen = _checked_providers(providers, onnxruntime)
    name = (library and archive.manifest.model) or archive.manifest.dense
    needed = {name, *([library.member] if library else [])}
    stored = archive.manifest.stored()
    members = archive.read(needed | stored)
    check_self_contained(members[name], where=name)
    if library:
        register_library(options, members[library.member], library)
    try:
        session = onnxruntime.InferenceSession(
            members[name], options, providers=chosen, disabled_optimizers=SLOW_FUSIONS
        )
    except Exception as error:
        raise TargetError(
            f"ONNX Runtime {onnxruntime.__version__} cannot load the model: {first_line(error)}",
            where=name,
        ) from error
    for provider in map(_name, chosen):
        if provider not in session.get_providers():
            raise TargetError(
                f"the execution provider {provider} does not start, and ONNX Runtime left it out",
                hint="install what it needs, or leave it out of the providers",
            )
    _check_signature(session, archive.manifest, name)
    return session, {member: members[member] for member in stored}


def _import_onnxruntime(oldest: str) -> Any:
    """ONNX Runtime, if it is new enough.

    Raises:
        TargetError: if it is older than the artifact needs.
    """
    # It writes telemetry files when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    if _numbers(onnxruntime.__version__) < _numbers(oldest):
        raise TargetError(
            f"the artifact needs ONNX Runtime {oldest} or newer, this is {onnxruntime.__version__}",
            hint=f"pip install 'onnxruntime>={oldest}'",
        )
    return onnxruntime


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])


def _checked_providers(
    providers: Sequence[Provider] | None, onnxruntime: Any
) -> Sequence[Provider]:
    available = onnxruntime.get_available_providers()
    for name in map(_name, providers or ()):
        if name not in available:
            raise TargetError(
                f"ONNX Runtime has no execution provider {name!r} here",
                hint=f"use one of {', '.join(available)}",
            )
    return providers or ["CPUExecutionProvider"]


def _name(provider: Provider) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _check_signature(session: Any, manifest: Manifest, member: str) -> None:
    """Check that a model has the inputs and outputs that the manifest declares."""
    for kind, specs, nodes in (
        ("input", manifest.inputs, session.get_inputs()),
        ("output", manifest.outputs, session.get_outputs()),
    ):
        declared = {spec.name: spec.dtype for spec in specs}
        found = {node.name: _dtype(node.type) for node in nodes}
        for name in sorted(declared.keys() | found.keys()):
            if declared.get(name) != found.get(name):
                raise ArtifactError(
                    f"the model and the manifest disagree about {kind} {name!r}", where=member
                )


def _dtype(kind: str) -> str:
    name = kind.removeprefix("tensor(").removesuffix(")")
    return _DTYPES.get(name, name)
