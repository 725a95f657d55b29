"""Image networks of timm: one or two of each family, small images, few blocks."""

from typing import Any

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision

Size = tuple[int, int]


def _row(
    name: str, size: Size = (64, 96), *, slow: bool = False, notes: str = "", **options: Any
) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        import timm

        return timm.create_model(name, pretrained=False, **options)

    return row(f"timm_{name}", make, normal((2, 3, *size)), notes, cheap=not slow)


def _sized(name: str, *size: int, slow: bool = False, notes: str, **options: Any) -> ZooModel:
    """A network that is told its image size, of `depth` 2 unless `options` say otherwise."""
    height, width = size if len(size) == 2 else size * 2
    image = size[0] if len(size) == 1 else (height, width)
    return _row(name, (height, width), slow=slow, notes=notes, img_size=image, **options)


CONVOLUTIONAL: tuple[ZooModel, ...] = (
    _row("convnextv2_atto", notes="global response norm"),
    _row("convnext_atto_ols", notes="overlapping stem"),
    _row("convnext_zepto_rms", notes="RMSNorm over channels"),
    _row("efficientnet_lite0", notes="relu6, no squeeze-excite"),
    _row("efficientnet_blur_b0", notes="blur pooling"),
    _row("efficientnet_cc_b0_4e", notes="kernels mixed per example from four experts"),
    _row("efficientnet_es", notes="fused expand convolutions"),
    _row("efficientnetv2_rw_t", notes="fused and separable blocks", slow=True),
    _row("mobilenetv3_rw", notes="squeeze-excite before the activation"),
    _row("mobilenetv4_conv_small", notes="universal inverted bottleneck"),
    _row("mobilenetv4_hybrid_medium", (64, 64), notes="multi-query attention over maps", slow=True),
    _row("fbnetv3_b", notes="searched widths"),
    _row("hardcorenas_a", notes="searched kernels"),
    _row("lcnet_050", notes="depthwise, one linear before the classifier"),
    _row("mnasnet_small", notes="separable convolutions"),
    _row("spnasnet_100", notes="searched expansion"),
    _row("tinynet_e", notes="scaled-down efficientnet"),
    _row("mixnet_s", notes="kernel sizes mixed over slices of the channels"),
    _row("rexnet_100", notes="partial residual: only the first channels are added"),
    _row("ghostnet_100", notes="cheap depthwise half concatenated, cut back"),
    _row("ghostnetv2_100", notes="gate from a downsampled branch"),
    _row("ghostnetv3_050", notes="re-parameterised ghost branches"),
    _row("repghostnet_050", notes="sum instead of concat"),
    _row("repvgg_a0", notes="three parallel branches in one sum"),
    _row("mobileone_s0", notes="over-parameterised branches"),
    _row("repvit_m0_9", notes="re-parameterised token mixer, distilled heads"),
    _row("hgnet_tiny", notes="aggregation of six outputs"),
    _row("hgnetv2_b0", notes="light blocks, learned affine of one scalar"),
    _row("hrnet_w18_small", notes="four resolutions exchanging sums"),
    _row("dla34", notes="tree of concatenations"),
    _row("dpn48b", notes="residual and dense paths sliced out of one convolution"),
    _row("res2net50_26w_4s", notes="hierarchical split, sums between slices"),
    _row("res2next50", notes="hierarchical split with groups"),
    _row("resnest14d", (96, 128), notes="split attention, softmax over radix"),
    _row("ecaresnet26t", notes="1-d convolution along the channels"),
    _row("seresnet18", notes="squeeze-excite"),
    _row("skresnet18", notes="selective kernels: stack, softmax over paths"),
    _row("gcresnext26ts", notes="global context, groups"),
    _row("legacy_seresnext26_32x4d", notes="groups, squeeze-excite"),
    _row("resnetv2_18", notes="pre-activation"),
    _row("resnetv2_50x1_bit", notes="standardised weights, GroupNorm", slow=True),
    _row("resnet50_clip", (96, 96), notes="attention pooling", img_size=96, slow=True),
    _row("resnetaa34d", notes="anti-aliased strides"),
    _row("resnet26t", notes="three-layer stem, average shortcut"),
    _row("nf_regnet_b0", notes="standardised weights, scalar gains"),
    _row("nf_resnet26", notes="standardised weights, no norm"),
    _row("eca_nfnet_l0", notes="standardised weights, gains, channel convolution", slow=True),
    _row("regnetv_040", notes="pre-activation, squeeze-excite", slow=True),
    _row("regnetz_005", notes="inverted bottlenecks with groups"),
    _row("densenetblur121d", notes="dense blocks, blur", slow=True),
    _row("vovnet39a", notes="one-shot aggregation"),
    _row("ese_vovnet19b_slim_dw", notes="one-shot aggregation, gates"),
    _row("selecsls42b", notes="selective long and short skips"),
    _row("tresnet_m", notes="space to depth, in-place leaky relu", slow=True),
    _row("cspresnet50", notes="cross-stage partial: split, process, concat"),
    _row("cspdarknet53", notes="cross-stage partial, leaky relu"),
    _row("cs3darknet_focus_s", notes="pixel unshuffle stem"),
    _row("cspnext_tiny", notes="cross-stage partial, channel attention"),
    _row("darknet17", notes="no split, leaky relu"),
    _row("gernet_s", notes="bottleneck and inverted bottleneck stages"),
    _row("inception_v3", (96, 128), notes="auxiliary head off"),
    _row("inception_v4", (96, 128), notes="concat of asymmetric branches", slow=True),
    _row("inception_resnet_v2", (96, 128), notes="scaled residual of concat", slow=True),
    _row("inception_next_atto", notes="depthwise kernels on slices of the channels"),
    _row("legacy_xception", (96, 96), notes="separable convolutions"),
    _row("xception41", notes="separable convolutions, aligned", slow=True),
    _row("nasnetalarge", (96, 96), notes="cells of searched branches, concat", slow=True),
    _row("pnasnet5large", (96, 96), notes="cells of searched branches, concat", slow=True),
    _row("convmixer_768_32", notes="depthwise 7x7 on patches"),
    _row("fasternet_t0", notes="convolution over a quarter of the channels"),
    _row("starnet_s1", notes="product of two linear branches"),
    _row("mambaout_femto", notes="gated convolution on a slice"),
    _row("rdnet_tiny", notes="dense connections of ConvNeXt blocks", slow=True),
    _row("lcnetv2_small", notes="re-parameterised depthwise"),
    _row("vgg11_bn", (64, 64), notes="convolutional classifier head", slow=True),
    _row("csatv2", (128, 128), notes="discrete cosine stem", slow=True),
)

ATTENTION: tuple[ZooModel, ...] = (
    _row("deit_tiny_patch16_224", (224, 224), notes="fused qkv, class token"),
    _sized("deit_tiny_distilled_patch16_224", 64, notes="two heads, averaged"),
    _sized("vit_tiny_patch16_224", 64, 96, notes="fused qkv"),
    _sized("deit3_small_patch16_224", 64, depth=2, notes="layer scale"),
    _sized("beit_base_patch16_224", 64, depth=2, notes="relative bias table, q and v bias only"),
    _sized("eva02_tiny_patch14_224", 56, depth=2, notes="rotary on patches, SwiGLU, sub-norm"),
    _sized("vit_base_patch16_rope_mixed_224", 64, depth=2, notes="learned rotary frequencies"),
    _sized("vit_relpos_small_patch16_224", 64, depth=2, notes="relative position bias"),
    _sized("vit_srelpos_small_patch16_224", 64, depth=2, notes="bias table shared by all blocks"),
    _sized("vit_small_patch14_reg4_dinov2", 56, depth=2, notes="registers, layer scale"),
    _sized("vit_small_resnet26d_224", 64, depth=2, notes="convolutional stem", slow=True),
    _sized("samvit_base_patch16_224", 64, depth=2, notes="windows, decomposed relative position"),
    _sized("flexivit_small", 64, depth=2, notes="no class token position"),
    _sized("aimv2_large_patch14_224", 56, depth=2, notes="RMSNorm, SwiGLU", slow=True),
    _row("naflexvit_base_patch16_gap", (64, 64), depth=2, notes="positions interpolated"),
    _sized("swin_tiny_patch4_window7_224", 112, notes="window masks as buffers, roll"),
    _sized("swinv2_tiny_window8_256", 64, notes="cosine attention, bias from an MLP"),
    _sized("swinv2_cr_tiny_224", 112, notes="cosine attention, post-norm", slow=True),
    _sized("swin_s3_tiny_224", 112, notes="searched windows", slow=True),
    _row("coatnet_nano_rw_224", (224, 224), notes="MBConv then relative attention"),
    _row("coatnext_nano_rw_224", (224, 224), notes="ConvNeXt then attention", slow=True),
    _row("maxxvit_rmlp_nano_rw_256", (256, 256), slow=True, notes="ConvNeXt and window attention"),
    _sized("maxvit_pico_rw_256", 128, slow=True, notes="window and grid attention"),
    _row("levit_128s", (224, 224), notes="linear-norm attention, key width below value width"),
    _row("levit_conv_128s", (224, 224), notes="the same on maps"),
    _row("mobilevit_xxs", (64, 96), notes="unfold to patches and back"),
    _row("mobilevitv2_050", (64, 96), notes="separable attention, GroupNorm"),
    _row("poolformer_s12", notes="pooling as mixer, GroupNorm of one group"),
    _row("poolformerv2_s12", notes="StarReLU, residual scale"),
    _row("caformer_s18", notes="convolution then attention stages", slow=True),
    _row("convformer_s18", notes="separable convolution mixer", slow=True),
    _row("edgenext_xx_small", notes="channel attention, split depthwise"),
    _row("fastvit_t8", notes="re-parameterised branches, layer scale"),
    _row("fastvit_sa12", notes="attention in the last stage", slow=True),
    _row("pvt_v2_b0", (64, 96), notes="spatial-reduction attention"),
    _row("pvt_v2_b2_li", (64, 96), notes="pooled attention", slow=True),
    _row("efficientformer_l1", (224, 224), notes="pooling then attention, bias table"),
    _row("efficientformerv2_s0", (224, 224), notes="talking heads, strided attention", slow=True),
    _row("efficientvit_b0", notes="linear attention, multi-scale"),
    _row("efficientvit_m0", (224, 224), notes="cascaded group attention"),
    _row("efficientvim_m1", (224, 224), notes="state space mixer of hidden states"),
    _row("shvit_s1", (128, 128), notes="one head over part of the channels"),
    _row("swiftformer_xs", notes="additive attention"),
    _row("iformer_t", notes="convolutional modulation, one head"),
    _row("lowformer_b0", notes="attention at lower resolution"),
    _row("cpubone_nano", notes="grouped fused blocks"),
    _sized("coat_lite_tiny", 64, notes="factorised attention, convolutional position"),
    _sized("coat_tiny", 64, notes="parallel scales", slow=True),
    _sized("convit_tiny", 64, depth=4, notes="gated positional attention"),
    _row("crossvit_9_240", (240, 240), notes="two scales exchange class tokens", slow=True),
    _row("crossvit_tiny_240", (240, 240), notes="two scales exchange class tokens", slow=True),
    _row("pit_ti_224", (224, 224), notes="pooling between stages"),
    _sized("tnt_s_patch16_224", 64, depth=2, notes="pixels within patches"),
    _sized("twins_pcpvt_small", 64, notes="spatial reduction, convolutional position", slow=True),
    _sized("twins_svt_small", 224, notes="local windows and global reduction", slow=True),
    _sized("cait_xxs24_224", 64, depth=2, notes="talking heads, class attention"),
    _sized("xcit_nano_12_p16_224", 64, depth=2, notes="attention across channels"),
    _sized("volo_d1_224", 64, notes="outlook attention: unfold and fold", slow=True),
    _sized("mixer_s32_224", 64, 96, notes="token mixing across patches"),
    _sized("gmixer_12_224", 64, notes="gated mixing"),
    _sized("resmlp_12_224", 64, notes="affine instead of norm"),
    _sized("gmlp_ti16_224", 64, notes="spatial gating of one half"),
    _row("focalnet_tiny_srf", notes="focal modulation, split at three widths", slow=True),
    _row("davit_tiny", notes="channel groups attend to each other", slow=True),
    _sized("gcvit_xxtiny", 224, notes="global queries, windows", slow=True),
    _sized("hiera_tiny_224", 224, notes="mask units, pooling of queries", slow=True),
    _row("sam2_hiera_tiny", (224, 224), notes="pooling of queries, windows", slow=True),
    _row("mvitv2_tiny", (224, 224), notes="pooled attention, residual queries", slow=True),
    _sized("nest_tiny_jx", 224, notes="blocks of patches, convolutional pooling", slow=True),
    _row("nextvit_small", notes="grouped convolution attention", slow=True),
    _row("visformer_tiny", (224, 224), notes="attention by 1x1 convolutions"),
    _sized("sequencer2d_s", 64, layers=(1, 1, 1, 1), notes="LSTMs along rows and columns"),
    _row("tiny_vit_5m_224", (224, 224), notes="windows, depthwise between", slow=True),
    _sized("vitamin_small_224", 64, notes="MBConv then GeGLU transformer", slow=True),
    _row("botnet26t_256", (64, 64), img_size=64, notes="bottleneck attention, relative position"),
    _row("sebotnet33ts_256", (64, 64), img_size=64, notes="squeeze-excite and attention"),
    _row("halonet26t", (256, 256), notes="blocks attend to their halo", slow=True),
    _row("lambda_resnet26t", (64, 64), img_size=64, notes="lambda layers", slow=True),
    _row("bat_resnext26ts", (256, 256), notes="bilinear attention", slow=True),
)

TIMM: tuple[ZooModel, ...] = (*CONVOLUTIONAL, *ATTENTION)
