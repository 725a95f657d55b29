"""Networks of segmentation-models-pytorch: every decoder, over small encoders."""

from typing import Any

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision


def _row(
    decoder: str,
    encoder: str = "resnet18",
    *,
    notes: str,
    size: tuple[int, int] = (64, 96),
    **options: Any,
) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        import segmentation_models_pytorch as smp

        build = getattr(smp, decoder)
        return build(encoder, encoder_weights=None, classes=5, **options)

    name = f"smp_{decoder.lower()}" + ("" if encoder == "resnet18" else f"_{encoder}")
    return row(name, make, normal((2, 3, *size)), notes, cheap=False)


SMP: tuple[ZooModel, ...] = (
    _row("Unet", notes="skip concat"),
    _row("Unet", "mobilenet_v2", decoder_attention_type="scse", notes="gates in the decoder"),
    _row("UnetPlusPlus", notes="nested skips"),
    _row("FPN", notes="pyramid, GroupNorm, sum"),
    _row("PSPNet", notes="pooled pyramid; the encoder is read before its last stages"),
    _row("DeepLabV3Plus", notes="separable atrous pyramid"),
    _row("MAnet", notes="position attention, multi-scale fusion"),
    _row("Linknet", notes="skips by addition"),
    _row("PAN", size=(128, 128), notes="pyramid attention"),
    _row("Segformer", "mit_b0", notes="spatial-reduction attention"),
    _row("UPerNet", notes="pooled pyramid over a pyramid"),
)
