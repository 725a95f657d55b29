"""Reading a manifest that anybody may have written.

Version 1 is closed: a key that is not known, or not there, is an error. What this reader does not
know could change the meaning of what it does know; so anything new is a new version.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

from .errors import ArtifactError
from .manifest import (
    DTYPES,
    FORMAT,
    MAX_MEMBER_SIZE,
    MAX_MEMBERS,
    MAX_TOTAL_SIZE,
    VERSION,
    Dim,
    Example,
    Library,
    Manifest,
    Member,
    StoredArray,
    TensorSpec,
    Tolerance,
)

T = TypeVar("T")

MEMBER_NAME = re.compile(r"(?=.{1,100}\Z)[a-z0-9_][a-z0-9._-]*(?:/[a-z0-9_][a-z0-9._-]*)*")
"""Relative, without `..`, and no two names alike on file systems that ignore case."""

_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+ -]{0,59}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RELEASE = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,2}")

_MAX_DIM = 2**40
_MAX_RANK = 32
_MAX_TEXT = 1000


def read_manifest(data: bytes) -> Manifest:
    """The manifest in a `manifest.json`.

    Raises:
        ArtifactError: if it is none, is of another version, or contradicts itself.
    """
    record = _record(_parse(data), "", None)
    if record.get("format") != FORMAT:
        raise _wrong("", f"is no manifest of an {FORMAT}")
    version = record.get("version")
    if version != VERSION or isinstance(version, bool):
        raise ArtifactError(
            f"the artifact is of format version {_shown(version)}, this runtime reads {VERSION}",
            hint="update autoprune-runtime, or compile the artifact again",
        )
    _record(record, "", ["format", "version", *(f.name for f in fields(Manifest))])
    manifest = Manifest(
        inputs=_items(record["inputs"], "inputs", _spec),
        outputs=_items(record["outputs"], "outputs", _spec),
        members=_table(record["members"], "members", _member, MEMBER_NAME),
        dense=_match(record["dense"], "dense", MEMBER_NAME),
        model=None if record["model"] is None else _match(record["model"], "model", MEMBER_NAME),
        libraries=_items(record["libraries"], "libraries", _library),
        onnxruntime=_match(record["onnxruntime"], "onnxruntime", _RELEASE),
        examples=_items(record["examples"], "examples", _example),
        tolerance=_tolerance(record["tolerance"], "tolerance"),
        provenance=_table(record["provenance"], "provenance", _text),
    )
    _check_agreement(manifest)
    return manifest


def _parse(data: bytes) -> Any:
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _wrong("", f"is no JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key occurs twice")
    return record


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _wrong(place: str, what: str) -> ArtifactError:
    return ArtifactError(f"the manifest{place and f', at {place},'} {what}")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _record(value: Any, place: str, keys: Sequence[str] | None) -> dict[str, Any]:
    """`value`, if it is an object, and one with exactly these keys."""
    if not isinstance(value, dict):
        raise _wrong(place, "is no object")
    if keys is not None and set(value) != set(keys):
        odd = sorted(set(value) ^ set(keys))[0]
        raise _wrong(place, f"has an unknown key {_shown(odd)}" if odd in value else f"lacks {odd}")
    return value


def _items(
    value: Any, place: str, item: Callable[[Any, str], T], most: int = MAX_MEMBERS
) -> tuple[T, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise _wrong(place, f"is no list of up to {most} items")
    return tuple(item(entry, f"{place}[{i}]") for i, entry in enumerate(value))


def _table(
    value: Any, place: str, item: Callable[[Any, str], T], names: re.Pattern[str] | None = None
) -> dict[str, T]:
    record = _record(value, place, None)
    if len(record) > MAX_MEMBERS:
        raise _wrong(place, f"has more than {MAX_MEMBERS} keys")
    for name in record:
        if names is None:
            _text(name, place)
        else:
            _match(name, place, names)
    return {name: item(entry, f"{place}[{name}]") for name, entry in record.items()}


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT or not value.isprintable():
        raise _wrong(place, f"has {_shown(value)} for a printable text")
    return value


def _match(value: Any, place: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(place, f"has {_shown(value)}, which is not allowed there")
    return value


def _integer(value: Any, place: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise _wrong(place, f"has {_shown(value)} for a whole number from 0 to {most}")
    return value


def _number(value: Any, place: str) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if not usable or not 0 <= value <= 1 or not math.isfinite(value):
        raise _wrong(place, f"has {_shown(value)} for a number from 0 to 1")
    return float(value)


def _spec(value: Any, place: str) -> TensorSpec:
    record = _record(value, place, ["name", "dtype", "shape"])
    if record["dtype"] not in DTYPES:
        raise _wrong(place, f"has an unknown dtype {_shown(record['dtype'])}")
    shape = _items(record["shape"], f"{place}.shape", _dim, _MAX_RANK)
    return TensorSpec(_text(record["name"], f"{place}.name"), record["dtype"], shape)


def _dim(value: Any, place: str) -> Dim:
    if value is None:
        return None
    return _text(value, place) if isinstance(value, str) else _integer(value, place, _MAX_DIM)


def _member(value: Any, place: str) -> Member:
    record = _record(value, place, ["size", "sha256"])
    size = _integer(record["size"], f"{place}.size", MAX_MEMBER_SIZE)
    return Member(size, _match(record["sha256"], f"{place}.sha256", _SHA256))


def _library(value: Any, place: str) -> Library:
    record = _record(value, place, [f.name for f in fields(Library)])
    return Library(
        member=_match(record["member"], f"{place}.member", MEMBER_NAME),
        system=_match(record["system"], f"{place}.system", _WORD),
        machine=_match(record["machine"], f"{place}.machine", _WORD),
        features=_items(record["features"], f"{place}.features", lambda v, p: _match(v, p, _WORD)),
        label=_match(record["label"], f"{place}.label", _LABEL),
    )


def _example(value: Any, place: str) -> Example:
    record = _record(value, place, ["inputs", "outputs"])
    return Example(
        _table(record["inputs"], f"{place}.inputs", _stored),
        _table(record["outputs"], f"{place}.outputs", _stored),
    )


def _stored(value: Any, place: str) -> StoredArray:
    record = _record(value, place, ["member", "shape"])

    def size(dim: Any, at: str) -> int:
        return _integer(dim, at, _MAX_DIM)

    shape = _items(record["shape"], f"{place}.shape", size, _MAX_RANK)
    return StoredArray(_match(record["member"], f"{place}.member", MEMBER_NAME), shape)


def _tolerance(value: Any, place: str) -> Tolerance:
    record = _record(value, place, ["absolute", "relative"])
    return Tolerance(
        _number(record["absolute"], f"{place}.absolute"),
        _number(record["relative"], f"{place}.relative"),
    )


def _check_agreement(manifest: Manifest) -> None:
    """What no value shows by itself."""
    if sum(member.size for member in manifest.members.values()) > MAX_TOTAL_SIZE:
        raise _wrong("members", f"has more than {MAX_TOTAL_SIZE} bytes in all")
    for place, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if len({spec.name for spec in specs}) < len(specs):
            raise _wrong(place, "has a name twice")
    if not manifest.outputs:
        raise _wrong("outputs", "is empty")
    if (manifest.model is None) == bool(manifest.libraries):
        raise _wrong("libraries", "must have libraries if there is a model that needs them")
    named = {"dense": manifest.dense} | ({"model": manifest.model} if manifest.model else {})
    named |= {f"libraries[{i}]": lib.member for i, lib in enumerate(manifest.libraries)}
    for place, name in named.items():
        if name not in manifest.members:
            raise _wrong(place, f"names {name}, which `members` lacks")
    for i, example in enumerate(manifest.examples):
        _check_arrays(f"examples[{i}].inputs", example.inputs, manifest.inputs, manifest.members)
        _check_arrays(f"examples[{i}].outputs", example.outputs, manifest.outputs, manifest.members)


def _check_arrays(
    place: str,
    arrays: Mapping[str, StoredArray],
    specs: Sequence[TensorSpec],
    members: Mapping[str, Member],
) -> None:
    if set(arrays) != {spec.name for spec in specs}:
        raise _wrong(place, "names other arrays than the network has")
    for spec in specs:
        array = arrays[spec.name]
        if array.member not in members:
            raise _wrong(place, f"names {array.member}, which `members` lacks")
        fits = len(array.shape) == len(spec.shape) and all(
            not isinstance(dim, int) or dim == size
            for dim, size in zip(spec.shape, array.shape, strict=False)
        )
        size = math.prod(array.shape) * np.dtype(spec.dtype).itemsize
        if not fits or size != members[array.member].size:
            raise _wrong(place, f"has a shape for {_shown(spec.name)} that does not fit")
