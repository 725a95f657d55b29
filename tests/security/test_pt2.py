"""`.pt2` files: read as torch reads them, or an error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autoprune.errors import TraceError
from autoprune.frameworks.torch.pt2 import load_pt2
from tests.security.programs import (
    write,
)


def test_the_program_itself_is_read(tmp_path):
    module, example = load_pt2(write(tmp_path / "net.pt2"))
    assert list(example) == ["x", "scale"]
    assert not module.training
    expected = module(**example)
    assert module(torch.ones(5, 4), scale=torch.ones(3)).shape == (5, 3)
    theirs = torch.export.load(tmp_path / "net.pt2").module()
    torch.testing.assert_close(theirs(example["x"], scale=example["scale"]), expected)


def test_a_program_exported_for_training_is_refused(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).train()
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (torch.ones(2, 4),)), path)
    with pytest.raises(TraceError, match="training mode"):
        load_pt2(path)


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_a_truncated_file(tmp_path, keep):
    path = write(tmp_path / "net.pt2")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(TraceError, match="not an exported program"):
        load_pt2(path)


def test_damaged_files(tmp_path):
    """Any byte may be another one: an error of ours, or a program."""
    path: Path = write(tmp_path / "net.pt2")
    data = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for place in torch.randint(len(data), (60,), generator=generator).tolist():
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            load_pt2(path)
        except TraceError:
            continue
