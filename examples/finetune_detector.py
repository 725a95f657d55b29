"""Prune a detector of ultralytics, and train, validate and export it through its own API.

`YOLO.train` builds the network anew from its description, which is that of the uncut one. A trainer
whose `get_model` returns the pruned network trains that instead; what it saves is then the pruned
network, too. The detector here has random weights, and the images are bright squares on noise.

    pip install ultralytics onnxruntime
    python examples/finetune_detector.py
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

# Before the import: nothing is looked up or downloaded, and settings are kept nowhere.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())

import cv2
import numpy as np
import torch
from torch import nn
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionTrainer

import autoprune as ap

SIZE = 64


def trainer_of(network: nn.Module) -> type[DetectionTrainer]:
    """A trainer that trains this network instead of building one."""

    class PrunedTrainer(DetectionTrainer):
        def get_model(self, cfg=None, weights=None, verbose=True):
            return network

    return PrunedTrainer


def make_dataset(folder: Path, images: int) -> Path:
    """Images with one square each, and their boxes, as ultralytics reads them."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for i in range(images):
            image = rng.integers(0, 80, (SIZE, SIZE, 3), dtype=np.uint8)
            side, left, top = rng.integers(16, 32), *rng.integers(0, 32, 2)
            image[top : top + side, left : left + side] = 255
            cv2.imwrite(str(folder / "images" / part / f"{i}.png"), image)
            box = [left + side / 2, top + side / 2, side, side]
            text = " ".join(f"{value / SIZE:.4f}" for value in box)
            (folder / "labels" / part / f"{i}.txt").write_text(f"0 {text}\n")
    data = folder / "data.yaml"
    data.write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n  0: square\n")
    return data


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def main(folder: Path, epochs: int = 20, images: int = 32) -> YOLO:
    """Train, prune, train what is left, validate and export it."""
    data = make_dataset(folder / "data", images)
    options = {
        "data": str(data), "imgsz": SIZE, "epochs": epochs, "batch": 8, "workers": 0,
        "device": "cpu", "plots": False, "amp": False, "verbose": False,
        "project": str(folder / "runs"), "exist_ok": True,
    }  # fmt: skip
    yolo = YOLO("yolov8n.yaml")
    yolo.train(name="whole", **options)
    whole = parameters(yolo.model)

    network = yolo.model.float()
    for parameter in network.parameters():
        parameter.requires_grad_(True)  # a loaded checkpoint is frozen
    result = ap.prune(network, torch.zeros(1, 3, SIZE, SIZE), flops=0.5)
    print(repr(result))

    yolo.model = result.model
    yolo.train(name="pruned", trainer=trainer_of(result.model), **options)
    assert parameters(yolo.model) < whole
    scores = yolo.val(data=str(data), imgsz=SIZE, device="cpu", workers=0, plots=False)
    file = yolo.export(format="onnx", imgsz=SIZE, simplify=False)
    print(f"{whole} -> {parameters(yolo.model)} parameters, mAP50 {scores.box.map50:.3f}, {file}")

    again = YOLO(folder / "runs" / "pruned" / "weights" / "best.pt")
    assert parameters(again.model) == parameters(yolo.model)
    return again


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
