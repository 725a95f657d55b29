"""Pickles in a `.pt2` file, and little data that would become much."""

from __future__ import annotations

import io
import json
import pickle
import zipfile

import pytest
import torch

from autoprune.errors import TraceError
from autoprune.frameworks.torch.pt2 import load_pt2
from tests.security.programs import (
    CONSTANTS,
    EXAMPLE,
    MODEL,
    WEIGHTS,
    editing,
    exported,
    write,
)


def pickled(value: object = None) -> bytes:
    buffer = io.BytesIO()
    torch.save(value or (({"x": Bomb()},), {}), buffer)
    return buffer.getvalue()


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def entry(members: dict[str, bytes], config: str, **changes: object) -> None:
    tree = json.loads(members[config])
    first = next(iter(tree["config"].values()), {"is_param": False, "tensor_meta": None})
    tree["config"]["c" if config == CONSTANTS else "fc.weight"] = {**first, **changes}
    members[config] = json.dumps(tree).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({EXAMPLE: pickled()}), "objects in them"),
        (lambda m: m.update({"data/weights/model.pt": pickled()}), "pickled tensors"),
        (lambda m: m.update({"data/constants/model.pt": pickled()}), "pickled tensors"),
        (lambda m: m.update({"data/aotinductor/m/x.so": b"\x7fELF"}), "compiled code"),
        (lambda m: entry(m, WEIGHTS, use_pickle=True), "a pickled object"),
        (
            lambda m: [
                m.update({"data/constants/opaque_obj_0": pickle.dumps(Bomb())}),
                entry(m, CONSTANTS, path_name="opaque_obj_0", use_pickle=False),
            ],
            "a pickled object",
        ),
        (
            lambda m: entry(m, CONSTANTS, path_name="custom_obj_0", use_pickle=False),
            "a pickled object",
        ),
    ],
)
def test_pickles_and_code_are_refused(tmp_path, change, message):
    with pytest.raises(TraceError, match=message):
        load_pt2(write(tmp_path / "net.pt2", change))


def test_the_old_format_is_not_read(tmp_path):
    """It is all pickles; torch reads it where the new one fails."""

    def change(members):
        members.update({MODEL: b"{}", "version": b"8.9"})

    path = write(tmp_path / "net.pt2", change)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("version", b"8.9")
        archive.writestr("serialized_exported_program.json", exported()[MODEL])
        for name in ("state_dict", "constants", "example_inputs"):
            archive.writestr(f"serialized_{name}.pt", pickled())
    with pytest.raises(TraceError):
        load_pt2(path)


def sized(*sizes: int) -> list[dict[str, int]]:
    return [{"as_int": size} for size in sizes]


def larger(members: dict[str, bytes]) -> None:
    """Weights of 2^44 numbers, which are all the same one."""

    def edit(tree):
        meta = tree["config"]["fc.weight"]["tensor_meta"]
        meta.update(sizes=sized(2**22, 2**22), strides=sized(0, 0))

    editing(WEIGHTS, edit)(members)


def laughing(members: dict[str, bytes]) -> None:
    """Example inputs in which lists of lists are repeated."""
    value: object = [torch.ones(1)]
    for _ in range(30):
        value = [value] * 10
    members[EXAMPLE] = pickled(((value,), {}))


def outside(members: dict[str, bytes]) -> None:
    def edit(tree):
        tree["config"]["fc.weight"]["tensor_meta"]["storage_offset"] = {"as_int": 10**6}

    editing(WEIGHTS, edit)(members)


def deep(members: dict[str, bytes]) -> None:
    members[MODEL] = b'{"graph_module":' + b"[" * 10**6


@pytest.mark.parametrize("change", [larger, laughing, outside, deep])
def test_little_data_that_would_become_much_is_refused(tmp_path, change):
    with pytest.raises(TraceError):
        load_pt2(write(tmp_path / "net.pt2", change))


def test_a_compressed_archive_is_refused(tmp_path):
    path = write(tmp_path / "net.pt2", compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(TraceError, match="compressed"):
        load_pt2(path)


def test_members_that_overlap_are_refused(tmp_path):
    """The directory names one member many times: a megabyte of file, many of data."""
    path = write(tmp_path / "net.pt2", lambda m: m.update({"big": bytes(10**5)}))
    with zipfile.ZipFile(path, "a") as archive:
        big = archive.getinfo("archive/big")
        for number in range(100):
            copy = zipfile.ZipInfo(f"archive/big{number}")
            copy.header_offset, copy.CRC = big.header_offset, big.CRC
            copy.file_size = copy.compress_size = big.file_size
            archive.filelist.append(copy)
        archive._didModify = True
    with pytest.raises(TraceError, match="overlap"):
        load_pt2(path)
