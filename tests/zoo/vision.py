"""Image networks of torchvision and timm: the published architectures on small images."""

from typing import Any

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision

Size = tuple[int, int]


def _torchvision(
    name: str, size: Size = (64, 96), *, slow: bool = False, notes: str = "", **options: Any
) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        from torchvision.models import get_model

        return get_model(name, weights=None, **options)

    return row(f"tv_{name}", make, normal((2, 3, *size)), notes, cheap=not slow)


def _timm(
    name: str, size: Size = (64, 96), *, slow: bool = False, notes: str = "", **options: Any
) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return row(f"timm_{name}", make, normal((2, 3, *size)), notes, cheap=not slow)


_SEGMENTER: dict[str, Any] = {"weights_backbone": None, "num_classes": 21}
_HEADS: dict[str, Any] = {"aux_logits": False, "init_weights": True}

TORCHVISION: tuple[ZooModel, ...] = (
    _torchvision("resnet18", notes="residual, strided 1x1 shortcuts"),
    _torchvision("resnet50", notes="bottlenecks"),
    _torchvision("vgg16_bn", slow=True, notes="flatten of 7x7 maps into the classifier"),
    _torchvision("mobilenet_v2", notes="inverted residuals, depthwise, relu6"),
    _torchvision("mobilenet_v3_small", notes="squeeze-excite, hardswish"),
    _torchvision("mobilenet_v3_large", notes="squeeze-excite, hardswish"),
    _torchvision("efficientnet_b0", notes="squeeze-excite, silu, stochastic depth"),
    _torchvision("densenet121", notes="long chains of concatenation"),
    _torchvision("resnext50_32x4d", notes="grouped convolutions"),
    _torchvision("regnet_x_400mf", notes="grouped convolutions, 16 wide groups"),
    _torchvision("regnet_y_400mf", notes="grouped convolutions, squeeze-excite"),
    _torchvision("shufflenet_v2_x1_0", notes="channel split, concat and shuffle"),
    _torchvision("convnext_tiny", notes="channels-last LayerNorm and linears, layer scale"),
    _torchvision("squeezenet1_1", (96, 128), notes="fire modules, convolution classifier"),
    _torchvision("googlenet", **_HEADS, notes="four-way concat"),
    _torchvision("inception_v3", (96, 128), **_HEADS, notes="asymmetric kernels, concat"),
    _torchvision("mnasnet1_0", notes="inverted residuals"),
    _torchvision("vit_b_16", (64, 64), image_size=64, notes="nn.MultiheadAttention"),
    _torchvision("swin_t", (64, 96), notes="shifted windows, patch merging, position table"),
    _torchvision("maxvit_t", (224, 224), slow=True, notes="block and grid attention, MBConv"),
    _torchvision("fcn_resnet50", **_SEGMENTER, notes="dilated, dict output"),
    _torchvision("deeplabv3_mobilenet_v3_large", **_SEGMENTER, notes="atrous pyramid"),
    _torchvision("lraspp_mobilenet_v3_large", **_SEGMENTER, notes="gated segmentation head"),
)

TIMM: tuple[ZooModel, ...] = (
    _timm("deit_tiny_patch16_224", (224, 224), notes="fused qkv, class token"),
    _timm("deit_tiny_distilled_patch16_224", (64, 64), img_size=64, notes="two heads, averaged"),
    _timm("vit_tiny_patch16_224", (64, 96), img_size=(64, 96), notes="fused qkv"),
    _timm(
        "swin_tiny_patch4_window7_224",
        (112, 112),
        img_size=112,
        notes="window masks as buffers, roll",
    ),
    _timm("convnextv2_atto", notes="global response norm"),
    _timm("mixer_s32_224", (64, 96), img_size=(64, 96), notes="token mixing across patches"),
    _timm("efficientnet_lite0", notes="relu6, no squeeze-excite"),
    _timm("ghostnet_100", notes="cheap depthwise half concatenated, cut back"),
    _timm("repvgg_a0", notes="three parallel branches in one sum"),
    _timm("hrnet_w18_small", notes="four resolutions exchanging sums"),
    _timm("dla34", notes="tree of concatenations"),
    _timm("res2net50_26w_4s", notes="hierarchical split, sums between slices"),
    _timm("resnest14d", (96, 128), notes="split attention, softmax over radix"),
    _timm("ecaresnet26t", notes="1-d convolution along the channels"),
    _timm("seresnet18", notes="squeeze-excite"),
    _timm("skresnet18", notes="selective kernels: stack, softmax over paths"),
    _timm("nf_regnet_b0", notes="standardised weights, scalar gains"),
    _timm("coatnet_nano_rw_224", (224, 224), notes="MBConv then relative attention"),
    _timm("maxxvit_rmlp_nano_rw_256", (256, 256), slow=True, notes="ConvNeXt and window attention"),
    _timm("levit_128s", (224, 224), notes="linear-norm attention, key width below value width"),
    _timm("mobilevit_xxs", (64, 96), notes="unfold to patches and back"),
    _timm("mobilevitv2_050", (64, 96), notes="separable attention, GroupNorm"),
    _timm("poolformer_s12", notes="pooling as mixer, GroupNorm of one group"),
    _timm("edgenext_xx_small", notes="channel attention, split depthwise"),
    _timm("fastvit_t8", notes="re-parameterised branches, layer scale"),
    _timm("pvt_v2_b0", (64, 96), notes="spatial-reduction attention"),
)
