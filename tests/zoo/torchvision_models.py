"""Networks of torchvision: classifiers, segmenters, detectors, video and optical flow."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision

Size = tuple[int, ...]


class DenseDetector(nn.Module):
    """Backbone, neck and dense head of a detector, without anchors and suppression.

    Those depend on the data and own no parameters, so a trace would freeze the example's boxes.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def _build(name: str, **options: Any) -> nn.Module:
    ensure_torchvision()
    from torchvision.models import get_model

    return get_model(name, weights=None, **options)


def _row(
    name: str, size: Size = (64, 96), *, cheap: bool = False, notes: str, **options: Any
) -> ZooModel:
    def make() -> nn.Module:
        return _build(name, **options)

    return row(f"tv_{name}", make, normal((2, 3, *size)), notes, cheap=cheap)


def _detector(
    name: str, head: Callable[[Any], nn.Module], notes: str, size: Size = (64, 96)
) -> ZooModel:
    def make() -> nn.Module:
        detector: Any = _build(name, weights_backbone=None, num_classes=5)
        return DenseDetector(detector.backbone, head(detector))

    return row(f"tv_{name}", make, normal((2, 3, *size)), f"{notes}; dense part", cheap=False)


def _frames() -> dict[str, Any]:
    first, second = normal((2, 3, 128, 128), (2, 3, 128, 128))()
    return {"image1": first, "image2": second, "num_flow_updates": 2}


_SEGMENTER: dict[str, Any] = {"weights_backbone": None, "num_classes": 21}
_HEADS: dict[str, Any] = {"aux_logits": False, "init_weights": True}

CLASSIFIERS: tuple[ZooModel, ...] = (
    _row("resnet18", cheap=True, notes="residual, strided 1x1 shortcuts"),
    _row("resnet50", notes="bottlenecks"),
    _row("vgg16_bn", notes="flatten of 7x7 maps into the classifier"),
    _row("mobilenet_v2", notes="inverted residuals, depthwise, relu6"),
    _row("mobilenet_v3_small", notes="squeeze-excite, hardswish"),
    _row("mobilenet_v3_large", notes="squeeze-excite, hardswish"),
    _row("efficientnet_b0", notes="squeeze-excite, silu, stochastic depth"),
    _row("densenet121", notes="long chains of concatenation"),
    _row("resnext50_32x4d", notes="grouped convolutions"),
    _row("regnet_x_400mf", notes="grouped convolutions, 16 wide groups"),
    _row("regnet_y_400mf", notes="grouped convolutions, squeeze-excite"),
    _row("shufflenet_v2_x1_0", notes="channel split, concat and shuffle"),
    _row("convnext_tiny", notes="channels-last LayerNorm and linears, layer scale"),
    _row("squeezenet1_1", (96, 128), cheap=True, notes="fire modules, convolution classifier"),
    _row("googlenet", **_HEADS, notes="four-way concat"),
    _row("inception_v3", (96, 128), **_HEADS, notes="asymmetric kernels, concat"),
    _row("mnasnet1_0", notes="inverted residuals"),
    _row("vit_b_16", (64, 64), image_size=64, notes="nn.MultiheadAttention"),
    _row("swin_t", (64, 96), notes="shifted windows, patch merging, position table"),
    _row("swin_v2_t", (64, 64), notes="cosine attention, continuous position bias"),
    _row("maxvit_t", (224, 224), notes="block and grid attention, MBConv"),
)

DENSE: tuple[ZooModel, ...] = (
    _row("fcn_resnet50", **_SEGMENTER, notes="dilated, dict output"),
    _row("deeplabv3_mobilenet_v3_large", **_SEGMENTER, notes="atrous pyramid"),
    _row("lraspp_mobilenet_v3_large", **_SEGMENTER, notes="gated segmentation head"),
    _detector("retinanet_resnet50_fpn", lambda m: m.head, "pyramid, one head on five scales"),
    _detector("fcos_resnet50_fpn", lambda m: m.head, "GroupNorm towers on five scales"),
    _detector("fasterrcnn_mobilenet_v3_large_fpn", lambda m: m.rpn.head, "region proposals"),
    _detector("ssdlite320_mobilenet_v3_large", lambda m: m.head, "depthwise heads", (128, 128)),
    _detector("ssd300_vgg16", lambda m: m.head, "rescaled L2 norm, six scales", (300, 300)),
)

VIDEO: tuple[ZooModel, ...] = (
    _row("r3d_18", (4, 32, 32), notes="3-d residual"),
    _row("r2plus1d_18", (4, 32, 32), notes="space and time factored"),
    _row("s3d", (16, 224, 224), notes="separable inception"),
    _row("swin3d_t", (4, 64, 64), notes="3-d windows"),
    row(
        "tv_raft_small",
        lambda: _build("raft_small"),
        _frames,
        "correlation pyramid, convolutional GRU, sampled by flow",
        cheap=False,
    ),
)

TORCHVISION: tuple[ZooModel, ...] = (*CLASSIFIERS, *DENSE, *VIDEO)
