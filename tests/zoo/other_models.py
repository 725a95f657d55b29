"""Networks of small packages: face detection and recognition, EfficientNet-Lite."""

from collections.abc import Callable
from typing import Any

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision


def _face(module: str, name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        ensure_torchvision()
        import importlib

        package = importlib.import_module(f"facenet_pytorch.models.{module}")
        return getattr(package, name)(**options)

    return make


def _lite() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


OTHER: tuple[ZooModel, ...] = (
    row(
        "mtcnn_proposal",
        _face("mtcnn", "PNet", pretrained=False),
        normal((2, 3, 24, 24)),
        "PReLU, two heads",
    ),
    row(
        "mtcnn_refine",
        _face("mtcnn", "RNet", pretrained=False),
        normal((2, 3, 24, 24)),
        "flatten of permuted maps",
    ),
    row(
        "mtcnn_output",
        _face("mtcnn", "ONet", pretrained=False),
        normal((2, 3, 48, 48)),
        "three heads",
    ),
    row(
        "facenet",
        _face(
            "inception_resnet_v1",
            "InceptionResnetV1",
            pretrained=None,
            num_classes=10,
            classify=True,
        ),
        normal((2, 3, 96, 96)),
        "scaled residuals, normalised embedding",
        cheap=False,
    ),
    row("efficientnet_lite0", _lite, normal((2, 3, 64, 96)), "static padding, relu6", cheap=False),
)
