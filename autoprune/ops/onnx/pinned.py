"""Operators whose axes are never cut, each with the reason; and calls no rule covers."""

from __future__ import annotations

from autoprune.ops.pinning import fixed_shape, pin_tensors, pinning
from autoprune.ops.rule import Operator, any_state, register
from autoprune.ops.views import Shape, Typing

_COMPARED, _DRAWN = "boxes are chosen by comparing them", "random positions are drawn"
_REASONS = {
    "read by a subgraph": (
        "If Loop Scan SequenceMap microsoft.BeamSearch microsoft.GreedySearch microsoft.Sampling "
        "microsoft.WhisperBeamSearch"
    ),
    "its non-zero positions are searched": "NonZero Unique Compress microsoft.Unique",
    _COMPARED: "NonMaxSuppression",
    "every channel belongs to a place in the region": "MaxRoiPool microsoft.CropAndResize",
    "transformed along it": "DFT STFT MelWeightMatrix microsoft.Rfft microsoft.Irfft",
    "collected in a sequence or an optional value": (
        "SequenceConstruct SequenceAt SequenceInsert SequenceErase SequenceEmpty SequenceLength "
        "ConcatFromSequence SplitToSequence Optional OptionalGetElement OptionalHasElement"
    ),
    "a matrix is taken as a whole": "Det microsoft.Inverse",
    "every class counts in the loss": "NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss",
    "positions are computed from it": "AffineGrid EyeLike",
    "values are put back where they were the largest": "MaxUnpool",
    "its bytes are read as another type": "BitCast",
    "text is computed from it": (
        "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer ImageDecoder "
        "microsoft.Tokenizer microsoft.MurmurHash3 microsoft.NGramHashMapping "
        "microsoft.VarlenNGramHashMapping microsoft.WordConvEmbedding"
    ),
    "a classical model in the file reads every feature": (
        "ml.ArrayFeatureExtractor ml.CastMap ml.CategoryMapper ml.DictVectorizer "
        "ml.FeatureVectorizer ml.Imputer ml.LabelEncoder ml.LinearClassifier ml.LinearRegressor "
        "ml.Normalizer ml.OneHotEncoder ml.SVMClassifier ml.SVMRegressor ml.Scaler "
        "ml.TreeEnsemble ml.TreeEnsembleClassifier ml.TreeEnsembleRegressor ml.ZipMap"
    ),
    _DRAWN: "Multinomial",
    "an experimental operator that ONNX gave up": (
        "Affine Crop DynamicSlice ImageScaler ParametricSoftplus Scale ScaledTanh"
    ),
    "an optimizer's step": "training.Adagrad training.Adam training.Momentum",
    "packed in the layout of a processor": (
        "nchwc.AveragePool nchwc.Conv nchwc.GlobalAveragePool nchwc.GlobalMaxPool nchwc.MaxPool "
        "nchwc.ReorderInput nchwc.ReorderOutput nchwc.Upsample"
    ),
    "experts are chosen by comparing positions": "microsoft.MoE microsoft.QMoE",
    "a state is carried from one position to the next": (
        "LinearAttention CausalConvWithState microsoft.LinearAttention "
        "microsoft.LinearAttentionGate microsoft.CausalConvWithState microsoft.GatedDeltaNet "
        "microsoft.VarlenCausalConvWithState microsoft.AttnLSTM microsoft.DynamicQuantizeLSTM "
        "microsoft.DynamicTimeWarping"
    ),
    "read inside one fused operator": (
        "preview.FlexAttention microsoft.EngramGate microsoft.HyperConnectionPostMix "
        "microsoft.HyperConnectionPreMix microsoft.MRotaryEmbedding microsoft.BranchwiseRMSNorm "
        "microsoft.GatedRMSNorm microsoft.MoEGroupRouter microsoft.SparseAttention "
        "microsoft.DecoderMaskedMultiHeadAttention microsoft.QEmbedLayerNormalization "
        "microsoft.QAttention microsoft.BifurcationDetector microsoft.NGramRepeatBlock "
        "microsoft.SampleOp microsoft.SparseToDenseMatMul microsoft.UnfoldTensor "
        "microsoft.GatherPacked microsoft.GatherBlockQuantized microsoft.MatMulBnb4 "
        "microsoft.MatMulFpQ4 microsoft.MaxpoolWithMask microsoft.NhwcMaxPool "
        "microsoft.ConvTransposeWithDynamicPads microsoft.CDist microsoft.Pad microsoft.GatherND "
        "microsoft.QLinearWhere microsoft.GatedAdd"
    ),
}

NAMES = " ".join(_REASONS.values())
"""All of them, without `onnx.`."""


def _call_axes(call: Typing) -> list[Shape]:
    """A call that its operator's rule does not cover; the frontend says why."""
    reason = str(call.get("reason"))
    pin_tensors(call, reason, *call.tensors)
    return [fixed_shape(call, v.shape, reason) for v in call.node.outputs]


register("onnx.pinned", Operator(axes=_call_axes, zero=any_state))
for _reason, _names in _REASONS.items():
    for _name in _names.split():
        register(
            _name if "." in _name else f"onnx.{_name}",
            pinning(_reason, saturates=_reason == _COMPARED, draws=_reason == _DRAWN),
        )
