"""Image networks of timm: one or two of each family, small images, few blocks."""

from typing import Any

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision

Size = tuple[int, int]


def _row(
    name: str, size: Size = (64, 96), *, cheap: bool = False, notes: str, **options: Any
) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return row(f"timm_{name}", make, normal((2, 3, *size)), notes, cheap=cheap)


def _sized(name: str, *size: int, notes: str, **options: Any) -> ZooModel:
    """A network that is told its image size."""
    height, width = size if len(size) == 2 else size * 2
    image = size[0] if len(size) == 1 else (height, width)
    return _row(name, (height, width), notes=notes, img_size=image, **options)


CONVOLUTIONAL: tuple[ZooModel, ...] = (
    _row("convnextv2_atto", notes="global response norm"),
    _row("efficientnet_lite0", notes="relu6, no squeeze-excite"),
    _row("efficientnet_cc_b0_4e", notes="kernels mixed per example from four experts"),
    _row("mobilenetv4_hybrid_medium", (64, 64), notes="multi-query attention over maps"),
    _row("mixnet_s", notes="kernel sizes mixed over slices of the channels"),
    _row("rexnet_100", notes="partial residual: only the first channels are added"),
    _row("ghostnet_100", notes="cheap depthwise half concatenated, cut back"),
    _row("ghostnetv2_100", notes="gate from a downsampled branch"),
    _row("repvgg_a0", notes="three parallel branches in one sum"),
    _row("mobileone_s0", notes="over-parameterised branches"),
    _row("repvit_m0_9", notes="re-parameterised token mixer, distilled heads"),
    _row("hgnetv2_b0", notes="light blocks, learned affine of one scalar"),
    _row("hrnet_w18_small", notes="four resolutions exchanging sums"),
    _row("dla34", notes="tree of concatenations"),
    _row("dpn48b", notes="residual and dense paths sliced out of one convolution"),
    _row("res2net50_26w_4s", notes="hierarchical split, sums between slices"),
    _row("resnest14d", (96, 128), cheap=True, notes="split attention, softmax over radix"),
    _row("ecaresnet26t", notes="1-d convolution along the channels"),
    _row("skresnet18", notes="selective kernels: stack, softmax over paths"),
    _row("gcresnext26ts", notes="global context, groups"),
    _row("resnetv2_50x1_bit", notes="standardised weights, GroupNorm"),
    _row("resnet50_clip", (96, 96), notes="attention pooling", img_size=96),
    _row("nf_regnet_b0", notes="standardised weights, scalar gains"),
    _row("nf_resnet26", notes="standardised weights, no norm"),
    _row("ese_vovnet19b_slim_dw", notes="one-shot aggregation, gates"),
    _row("selecsls42b", notes="selective long and short skips"),
    _row("tresnet_m", notes="space to depth, in-place leaky relu"),
    _row("cspdarknet53", notes="cross-stage partial, leaky relu"),
    _row("inception_resnet_v2", (96, 128), notes="scaled residual of concat"),
    _row("inception_next_atto", notes="depthwise kernels on slices of the channels"),
    _row("legacy_xception", (96, 96), notes="separable convolutions"),
    _row("nasnetalarge", (96, 96), notes="cells of searched branches, concat"),
    _row("pnasnet5large", (96, 96), notes="cells of searched branches, concat"),
    _row("convmixer_768_32", notes="depthwise 7x7 on patches"),
    _row("fasternet_t0", notes="convolution over a quarter of the channels"),
    _row("starnet_s1", notes="product of two linear branches"),
    _row("mambaout_femto", notes="gated convolution on a slice"),
    _row("rdnet_tiny", notes="dense connections of ConvNeXt blocks"),
)

ATTENTION: tuple[ZooModel, ...] = (
    _sized("deit_tiny_distilled_patch16_224", 64, notes="two heads, averaged"),
    _sized("vit_tiny_patch16_224", 64, 96, notes="fused qkv"),
    _sized("beit_base_patch16_224", 64, depth=2, notes="relative bias table, q and v bias only"),
    _sized("eva02_tiny_patch14_224", 56, depth=2, notes="rotary on patches, SwiGLU, sub-norm"),
    _sized("vit_base_patch16_rope_mixed_224", 64, depth=2, notes="learned rotary frequencies"),
    _sized("vit_small_patch14_reg4_dinov2", 56, depth=2, notes="registers, layer scale"),
    _sized("samvit_base_patch16_224", 64, depth=2, notes="windows, decomposed relative position"),
    _row("naflexvit_base_patch16_gap", (64, 64), depth=2, notes="positions interpolated"),
    _sized("swin_tiny_patch4_window7_224", 112, notes="window masks as buffers, roll"),
    _sized("swinv2_tiny_window8_256", 64, notes="cosine attention, bias from an MLP"),
    _row("maxxvit_rmlp_nano_rw_256", (256, 256), notes="ConvNeXt and window attention"),
    _sized("maxvit_pico_rw_256", 128, notes="window and grid attention"),
    _row("levit_128s", (224, 224), notes="linear-norm attention, key width below value width"),
    _row("mobilevit_xxs", (64, 96), notes="unfold to patches and back"),
    _row("mobilevitv2_050", (64, 96), notes="separable attention, GroupNorm"),
    _row("poolformer_s12", notes="pooling as mixer, GroupNorm of one group"),
    _row("caformer_s18", notes="convolution then attention stages"),
    _row("edgenext_xx_small", notes="channel attention, split depthwise"),
    _row("fastvit_t8", notes="re-parameterised branches, layer scale"),
    _row("pvt_v2_b0", (64, 96), notes="spatial-reduction attention"),
    _row("efficientformerv2_s0", (224, 224), notes="talking heads, strided attention"),
    _row("efficientvit_b0", notes="linear attention, multi-scale"),
    _row("efficientvit_m0", (224, 224), notes="cascaded group attention"),
    _row("efficientvim_m1", (224, 224), notes="state space mixer of hidden states"),
    _row("shvit_s1", (128, 128), notes="one head over part of the channels"),
    _row("swiftformer_xs", notes="additive attention"),
    _sized("coat_lite_tiny", 64, notes="factorised attention, convolutional position"),
    _sized("convit_tiny", 64, depth=4, notes="gated positional attention"),
    _row("crossvit_tiny_240", (240, 240), notes="two scales exchange class tokens"),
    _row("pit_ti_224", (224, 224), notes="pooling between stages"),
    _sized("tnt_s_patch16_224", 64, depth=2, notes="pixels within patches"),
    _sized("twins_svt_small", 224, notes="local windows and global reduction"),
    _sized("cait_xxs24_224", 64, cheap=True, depth=2, notes="talking heads, class attention"),
    _sized("xcit_nano_12_p16_224", 64, depth=2, notes="attention across channels"),
    _sized("volo_d1_224", 64, notes="outlook attention: unfold and fold"),
    _sized("mixer_s32_224", 64, 96, notes="token mixing across patches"),
    _sized("gmlp_ti16_224", 64, notes="spatial gating of one half"),
    _row("focalnet_tiny_srf", notes="focal modulation, split at three widths"),
    _row("davit_tiny", notes="channel groups attend to each other"),
    _sized("gcvit_xxtiny", 224, notes="global queries, windows"),
    _sized("hiera_tiny_224", 224, notes="mask units, pooling of queries"),
    _row("mvitv2_tiny", (224, 224), notes="pooled attention, residual queries"),
    _sized("nest_tiny_jx", 224, notes="blocks of patches, convolutional pooling"),
    _row("nextvit_small", notes="grouped convolution attention"),
    _sized("sequencer2d_s", 64, layers=(1, 1, 1, 1), notes="LSTMs along rows and columns"),
    _row("tiny_vit_5m_224", (224, 224), notes="windows, depthwise between"),
    _row("botnet26t_256", (64, 64), img_size=64, notes="bottleneck attention, relative position"),
    _row("halonet26t", (256, 256), notes="blocks attend to their halo"),
    _row("lambda_resnet26t", (64, 64), img_size=64, notes="lambda layers"),
    _row("bat_resnext26ts", (256, 256), notes="bilinear attention"),
)

TIMM: tuple[ZooModel, ...] = (*CONVOLUTIONAL, *ATTENTION)
