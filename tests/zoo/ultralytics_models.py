"""Detectors of ultralytics (AGPL: built here for tests, never imported by autoprune)."""

import os
import tempfile

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision


def _row(name: str, task: str = "Detection", *, notes: str) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        # On import it writes its settings, and asks the network whether there is one.
        os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
        os.environ.setdefault("YOLO_OFFLINE", "true")
        os.environ.setdefault("YOLO_VERBOSE", "false")
        from ultralytics.nn import tasks

        return getattr(tasks, f"{task}Model")(f"{name}.yaml", verbose=False)

    return row(f"yolo_{name}", make, normal((2, 3, 64, 96)), notes, cheap=False)


ULTRALYTICS: tuple[ZooModel, ...] = (
    _row("yolov5n", notes="C3 blocks, box distributions"),
    _row("yolov8n", notes="C2f blocks, box distributions"),
    _row("yolov8n-seg", "Segmentation", notes="mask coefficients and prototypes"),
    _row("yolov8n-pose", "Pose", notes="key points"),
    _row("yolov9t", notes="re-parameterised aggregation"),
    _row("yolov10n", notes="two heads, top predictions, attention on half the channels"),
    _row("yolo11n", notes="C3k2 blocks, attention on half the channels"),
    _row("yolo12n", notes="area attention"),
)
