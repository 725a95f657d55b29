"""Elementwise operators: shapes broadcast, zeros stay zero or do not."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.operators.case import FOLDED, A, Case, M, Z, aten, chain, free

DOUBLE = torch.float64


def _op(name, *args):
    return lambda x: getattr(aten, name)(x, *args)


def names(text):
    return text.split()


def _square(x):
    return x * x


def _double(x):
    return x.to(DOUBLE)


KEEPS_ZERO = (
    *(
        chain(name, _op(name), Z)
        for name in names(
            "relu relu6 gelu silu mish tanh hardswish leaky_relu elu selu celu rrelu abs neg "
            "negative sign sgn square sin tan atan sinh asinh expm1 erf floor ceil round "
            "trunc fix frac hardshrink softshrink nan_to_num clone alias detach positive "
            "contiguous lift_fresh_copy real"
        )
    ),
    chain("sqrt", torch.sqrt, Z, before=_square),
    chain("log1p", torch.log1p, Z, before=_square),
    chain("asin", torch.asin, Z, before=torch.tanh),
    chain("atanh", torch.atanh, Z, before=torch.tanh),
    chain("erfinv", torch.erfinv, Z, before=torch.tanh),
    chain("bernoulli", torch.bernoulli, A, before=torch.sigmoid),
    chain("dropout in training", lambda x: F.dropout(x, 0.5, True), A, covers="dropout"),
    chain("data", _op("data"), Z),
    chain("native_dropout", lambda x: aten.native_dropout(x, 0.5, False)[0], Z),
    chain("_to_copy", lambda x: aten._to_copy(x, dtype=torch.float32), Z, after=_double),
    chain("to", lambda x: x.to(torch.float32), Z, after=_double),
    chain("type_as", lambda x: x.to(torch.float32).type_as(x), Z),
    chain("dropout", lambda x: F.dropout(x, 0.5, False), Z),
    chain("feature_alpha_dropout", lambda x: aten.feature_alpha_dropout(x, 0.5, False), Z),
    chain("native_dropout_backward", lambda x: aten.native_dropout_backward(x, x > 0, 2.0), Z),
    chain("feature_dropout", lambda x: aten.feature_dropout(x, 0.5, False), Z),
    chain("alpha_dropout", lambda x: aten.alpha_dropout(x, 0.5, False), Z),
    chain("relu_", lambda x: F.relu(x, inplace=True), Z, covers="relu"),
    chain("tanhshrink", F.tanhshrink, Z, covers="sub tanh"),
    chain("softsign", F.softsign, Z, covers="div abs"),
)

MAKES_CONSTANT = (
    *(
        chain(name, _op(name), FOLDED)
        for name in names("sigmoid exp exp2 cos cosh softplus hardsigmoid log_sigmoid erfc")
    ),
    chain("acos", torch.acos, FOLDED, before=torch.tanh),
    chain("logical_not", torch.logical_not, FOLDED, before=F.relu, after=_double),
    chain("bitwise_not", torch.bitwise_not, M, before=lambda x: x > 0, after=_double),
    chain("isfinite", lambda x: torch.isfinite(x) + x, FOLDED),
    chain("isnan", lambda x: torch.isnan(x) + x, FOLDED, weaker="isnan(0) is 0, which is not used"),
    chain("isinf", lambda x: torch.isinf(x) + x, FOLDED, weaker="isinf(0) is 0, which is not used"),
    chain("signbit", lambda x: torch.signbit(-x) + x, M),
    chain("cos on the way in place", lambda x: x.cos_(), FOLDED, covers="cos"),
)

# 1 / 0 is infinite: neither the zeroed network nor its consumers know what to do with it.
UNDEFINED_AT_ZERO = (
    *(
        chain(name, _op(name), A, before=torch.abs)
        for name in names("rsqrt log log2 log10 digamma")
    ),
    chain("reciprocal", torch.reciprocal, A),
    chain("lgamma", torch.lgamma, A),
    chain("zero times infinity", lambda x: x * (x * x).reciprocal(), A, covers="mul reciprocal"),
    chain(
        "rsqrt of what is never zero",
        torch.rsqrt,
        FOLDED,
        before=lambda x: x * x + 1,
        covers="rsqrt",
    ),
    chain(
        "log of what is never zero",
        torch.log,
        FOLDED,
        before=lambda x: torch.exp(x) + 1,
        covers="log exp",
    ),
)

BOUNDS = (
    chain("clamp containing 0", lambda x: x.clamp(-0.5, 0.5), Z, covers="clamp"),
    chain("clamp above 0", lambda x: x.clamp(0.25, 1), FOLDED, covers="clamp"),
    chain("clamp below 0", lambda x: x.clamp(-1, -0.25), FOLDED, covers="clamp"),
    chain("clamp one-sided", lambda x: x.clamp(min=0), Z, covers="clamp"),
    chain("clamp one-sided above 0", lambda x: x.clamp(min=0.5), FOLDED, covers="clamp"),
    chain("clip", lambda x: aten.clip(x, -0.5, 0.5), Z),
    chain("clamp_min", lambda x: x.clamp_min(0), Z),
    chain("clamp_min above 0", lambda x: x.clamp_min(0.5), FOLDED, covers="clamp_min"),
    chain("clamp_max", lambda x: x.clamp_max(0.5), Z),
    chain("clamp_max below 0", lambda x: x.clamp_max(-0.5), FOLDED, covers="clamp_max"),
    chain("hardtanh", lambda x: F.hardtanh(x, -0.5, 0.5), Z),
    chain("hardtanh above 0", lambda x: F.hardtanh(x, 0.5, 1.5), FOLDED, covers="hardtanh"),
    chain("hardtanh default", aten.hardtanh, Z, covers="hardtanh"),
    Case(
        "clamp with learned bounds",
        "clamp",
        lambda: {"a": nn.Linear(3, 6), "low": free(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).clamp(min=m.low)),
        {"low:0[6]": Z},
    ),
    Case(
        "clamp with a learned lower bound that is not cut",
        "clamp",
        lambda: {"a": nn.Linear(3, 6), "low": free(1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x).clamp(min=m.low.abs() + 0.1)),
        {"a.weight:0[6]": M},
    ),
    chain("threshold", lambda x: F.threshold(x, 0.1, 0.0), Z),
    chain("threshold below 0", lambda x: F.threshold(x, -0.1, 5.0), Z, covers="threshold"),
    chain(
        "threshold to a constant", lambda x: F.threshold(x, 0.1, 5.0), FOLDED, covers="threshold"
    ),
    # max(x, 0) of a threshold of exactly 0: 0 is not above 0, so it becomes the value.
    chain("threshold at 0", lambda x: F.threshold(x, 0.0, 5.0), FOLDED, covers="threshold"),
)

POWERS = (
    chain("pow", lambda x: x**3, Z),
    chain("pow 0.5", lambda x: x.abs() ** 0.5, Z, covers="pow"),
    chain("pow 0", lambda x: x**0 + x, M, covers="pow"),
    chain("pow -1", lambda x: x**-1, A, covers="pow"),
    chain("pow -1 of what is never zero", lambda x: (x * x + 1) ** -1, FOLDED, covers="pow"),
    chain("pow of a scalar", lambda x: 2.0**x, M, covers="pow"),
    Case(
        "pow of two tensors",
        "pow",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z((m.a(x) * m.a(x) + 1) ** m.b(x)),
        {"a.weight:0[6]": M},
    ),
)


def pair(name, op, guarantee, *, covers="", weaker="", after=lambda x: x):
    """Two linears 3 -> 6, the operator on both, linear 6 -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(after(op(m.a(x), m.b(x)))),
        {"a.weight:0[6]": guarantee} if guarantee else {},
        weaker=weaker,
    )


def _logical(name):
    return lambda a, b: getattr(aten, name)(a > 0, b > 0.3).to(DOUBLE)


def _ratio(name):
    return lambda a, b: getattr(aten, name)(a, b * b + 1)


def _comparison(name):
    return lambda a, b: getattr(aten, name)(a, b).to(DOUBLE) + a


PAIRS = (
    *(
        pair(name, getattr(aten, name), Z)
        for name in names("add sub subtract mul multiply maximum minimum fmax fmin hypot rsub")
    ),
    *(
        # `a > 0` of a removed unit is a constant, although it is the constant False.
        pair(name, _logical(name), M, weaker="False is not known to be 0")
        for name in names(
            "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor __and__ __or__"
        )
    ),
    *(
        pair(name, _ratio(name), Z)
        for name in names("div divide true_divide floor_divide remainder fmod")
    ),
    *(pair(name, _comparison(name), M) for name in names("eq le ge")),
    *(
        pair(name, _comparison(name), M, weaker="f(0, 0) is 0, which is not used")
        for name in names("ne lt gt")
    ),
    pair("atan2", lambda a, b: torch.atan2(a, b), M, weaker="atan2(0, 0) is 0"),
    pair("xlogy", lambda a, b: torch.xlogy(a, b * b + 1), Z),
    pair("heaviside", lambda a, b: torch.heaviside(a.relu(), b.cos()), FOLDED),
    pair("max.other", torch.max, Z),
    pair("min.other", torch.min, Z),
    pair("div by zero", lambda a, b: a / b, A, covers="div"),
    pair("div of a scalar", lambda a, b: 1 / (a * a + 1) + b, FOLDED, covers="reciprocal"),
    pair("floor_divide with a scalar", lambda a, b: (a * 5) // 2 + b, Z, covers="floor_divide"),
    pair("mul by a constant", lambda a, b: a * b.sigmoid(), Z, covers="mul sigmoid"),
    pair("mul of constants", lambda a, b: a.cos() * b.sigmoid(), FOLDED, covers="mul"),
    pair("add a scalar", lambda a, b: a + b + 1.5, FOLDED, covers="add"),
    pair("add scaled", lambda a, b: torch.add(a, b, alpha=2), Z, covers="add"),
    pair("sub from a scalar", lambda a, b: 1 - a * b, FOLDED, covers="rsub"),
    pair("in place on a value", lambda a, b: a.mul_(b).add_(1), FOLDED, covers="mul add"),
    pair("in place keeps zero", lambda a, b: a.add_(b).mul_(2), Z, covers="mul add"),
    pair("addcmul", lambda a, b: torch.addcmul(a, a, b), Z),
    pair("addcdiv", lambda a, b: torch.addcdiv(a, a, b * b + 1), Z),
    pair("lerp", lambda a, b: torch.lerp(a, b, 0.3), Z),
    pair("lerp with a tensor weight", lambda a, b: torch.lerp(a, b, a.sigmoid()), Z, covers="lerp"),
    pair("copy", lambda a, b: aten.copy(a, b), Z),
    pair("copy_", lambda a, b: (a * 1).copy_(b.cos()), FOLDED, covers="copy"),
    pair("fill", lambda a, b: aten.fill(a, 2.0) + b, FOLDED),
    pair("fill_ zero", lambda a, b: a.fill_(0.0) + b, Z, covers="fill"),
    pair("zero", lambda a, b: aten.zero(a) + b, Z),
    pair("zero_", lambda a, b: (a + 1).zero_() + b, Z, covers="zero"),
    pair("where", lambda a, b: torch.where(a > 0, a, b), Z),
    pair("where a scalar", lambda a, b: torch.where(a > 0, b, 0.5), M, covers="where"),
    pair("where zero", lambda a, b: torch.where(a > 0, b, 0.0), Z, covers="where"),
    pair("masked_fill 0", lambda a, b: a.masked_fill(b > 0, 0.0), Z, covers="masked_fill"),
    pair("masked_fill 2", lambda a, b: a.masked_fill(b <= 0, 2.0), M, covers="masked_fill"),
    pair("masked_fill_", lambda a, b: a.masked_fill_(b <= 0, 2.0), M, covers="masked_fill"),
    pair(
        "prelu with one slope",
        lambda a, b: F.prelu(a, torch.full((1,), 0.3, dtype=DOUBLE)) + b,
        Z,
        covers="prelu",
    ),
    pair(
        "cat of a value with itself added",
        lambda a, b: a + torch.zeros_like(b),
        Z,
        covers="zeros_like",
    ),
    pair("ones_like", lambda a, b: a + torch.ones_like(b) + b, M),
    pair("full_like", lambda a, b: a + b * torch.full_like(b, 2.0), Z),
    pair("full_like zero", lambda a, b: a + b + torch.full_like(b, 0.0), Z, covers="full_like"),
    pair("full_like two", lambda a, b: a + b + torch.full_like(b, 2.0), M, covers="full_like"),
    pair("empty_like", lambda a, b: a + torch.empty_like(b).fill_(2.0) * b, Z, covers="empty_like"),
    pair("rand_like", lambda a, b: a + b + torch.rand_like(b), A, covers="rand_like"),
    pair("randn_like", lambda a, b: a + b * torch.randn_like(b), A, covers="randn_like"),
)

BROADCASTING = (
    Case(
        "add of a vector on the right",
        "add",
        lambda: {"a": nn.Linear(3, 6), "v": free(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) + m.v),
        {"v:0[6]": Z},
    ),
    Case(
        "add of a vector on the left",
        "add",
        lambda: {"v": free(6), "a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.v + m.a(x)),
        {"v:0[6]": Z},
    ),
    Case(
        "mul of a column",
        "mul",
        lambda: {"a": nn.Conv1d(3, 6, 1), "v": free(6, 1), "z": nn.Conv1d(6, 2, 1)},
        lambda m, x: m.z(m.a(x) * m.v),
        {"v:0[6]": Z},
        ((2, 3, 4),),
    ),
    Case(
        "add of a single number to every unit",
        "add",
        lambda: {"a": nn.Linear(3, 6), "v": free(1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) + m.v),
        {"a.weight:0[6]": M},
    ),
    Case(
        "mul by a single number",
        "mul",
        lambda: {"a": nn.Linear(3, 6), "v": free(1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) * m.v),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "outer sum: both operands stretch",
        "add",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": nn.Linear(3, 4),
            "z": nn.Linear(4, 2),
            "z2": nn.Linear(6, 2),
        },
        lambda m, x: m.z2(m.z(m.a(x)[:, :, None] + m.b(x)[:, None, :]).transpose(1, 2)),
        {"a.weight:0[6]": M, "b.weight:0[4]": M},
    ),
    Case(
        "outer product",
        "mul",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": nn.Linear(3, 4),
            "z": nn.Linear(4, 2, bias=False),
            "z2": nn.Linear(6, 2),
        },
        lambda m, x: m.z2(m.z(m.a(x)[:, :, None] * m.b(x)[:, None, :]).transpose(1, 2)),
        {"a.weight:0[6]": Z, "b.weight:0[4]": Z},
    ),
    Case(
        "where on a stretched condition",
        "where",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(torch.where(x[:, :1] > 0, m.a(x), 0.0)),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "squeeze and excite gate",
        "mul sigmoid",
        lambda: {"a": nn.Conv2d(3, 6, 1), "g": nn.Conv2d(6, 6, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z((y := m.a(x)) * m.g(y.mean((2, 3), keepdim=True)).sigmoid()),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4),),
    ),
    Case(
        "a table of constants added",
        "add",
        lambda: {
            "a": nn.Linear(3, 6),
            "t": torch.arange(6.0, dtype=DOUBLE) + 1,
            "z": nn.Linear(6, 2),
        },
        lambda m, x: m.z(m.a(x) + m.t),
        {"a.weight:0[6]": M},
    ),
    Case(
        "a table of constants multiplied",
        "mul",
        lambda: {
            "a": nn.Linear(3, 6),
            "t": torch.arange(6.0, dtype=DOUBLE) + 1,
            "z": nn.Linear(6, 2),
        },
        lambda m, x: m.z(m.a(x) * m.t),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "a scalar parameter",
        "add",
        lambda: {"a": nn.Linear(3, 6), "v": nn.Parameter(torch.zeros(())), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.a(x) * m.v + m.v),
        {"a.weight:0[6]": M},
    ),
)


def _sliced(x, change):
    change(x[:, :4])
    return x


def _assign(x, y):
    x[:, :4] = y
    return x


VIEWS_IN_PLACE = (
    Case(
        "in place addition on a slice",
        "slice add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(_sliced(m.a(x), lambda s: s.add_(1.0))),
        {"a.weight:0/0[4]": FOLDED, "a.weight:0/1[2]": Z},
    ),
    Case(
        "in place multiplication on a slice",
        "slice mul",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(_sliced(m.a(x), lambda s: s.mul_(2.0))),
        {"a.weight:0/0[4]": Z, "a.weight:0/1[2]": Z},
    ),
    Case(
        "assignment to a slice",
        "slice copy",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 4), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(_assign(m.a(x), m.b(x).cos())),
        {"a.weight:0/0[4]": FOLDED, "a.weight:0/1[2]": Z},
        weaker="the whole value counts as written to",
    ),
    Case(
        "assignment of what is zero to a slice",
        "slice copy",
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 4), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(_assign(m.a(x), m.b(x))),
        {"a.weight:0/0[4]": Z, "a.weight:0/1[2]": Z},
    ),
    Case(
        "in place on a view, read through the original",
        "view.default cos",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(((y := m.a(x)).view(-1).cos_(), y)[1]),
        {"a.weight:0[6]": FOLDED},
    ),
    Case(
        "in place on the original, read through a view made before",
        "t add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(((t := (y := m.a(x)).t()), y.add_(1.0), t)[2].t()),
        {"a.weight:0[6]": FOLDED},
    ),
    Case(
        "in place on a view of a view",
        "transpose slice add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(((y := m.a(x)).transpose(0, 1)[1:5].add_(1.0), y)[1]),
        {"a.weight:0[4]": FOLDED},
        weaker="the whole value counts as written to",
    ),
    Case(
        "in place on a detached alias",
        "detach add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(((y := m.a(x)).detach().add_(1.0), y)[1]),
        {"a.weight:0[6]": FOLDED},
    ),
    Case(
        "in place on what .contiguous() gave back itself",
        "add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(((y := m.a(x)).contiguous().add_(1.0), y)[1]),
        {"a.weight:0[6]": FOLDED},
    ),
    Case(
        "in place on a clone leaves the original",
        "clone add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2), "z2": nn.Linear(6, 2)},
        lambda m, x: ((y := m.a(x)).clone().add_(1.0), m.z(y))[1],
        {"a.weight:0[6]": Z},
    ),
    Case(
        "in place on what was expanded",
        "expand add",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z((m.a(x)[:, None].expand(5, 4, 6) * 1).add_(1.0).mean(1)),
        {"a.weight:0[6]": M},
    ),
    Case(
        "where an earlier reader saw the value before it was written to",
        "add cos",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2), "z2": nn.Linear(6, 2)},
        lambda m, x: m.z(y := m.a(x)) + m.z2(y.add_(1.0).cos()),
        {"a.weight:0[6]": FOLDED},
    ),
)

GATED = (
    Case(
        "prelu",
        "prelu",
        lambda: {"a": nn.Conv2d(3, 6, 1), "p": nn.PReLU(6), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z(m.p(m.a(x))),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4),),
    ),
    Case(
        "_prelu_kernel",
        "_prelu_kernel",
        lambda: {"a": nn.Linear(3, 6), "p": free(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(aten._prelu_kernel(m.a(x), m.p[None])),
        {"p:0[6]": Z},
    ),
    Case(
        "glu",
        "glu",
        lambda: {"a": nn.Linear(3, 12), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(F.glu(m.a(x))),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "glu over channels",
        "glu",
        lambda: {"a": nn.Conv1d(3, 12, 1), "z": nn.Conv1d(6, 2, 1)},
        lambda m, x: m.z(F.glu(m.a(x), 1)),
        {"a.weight:0[6]": Z},
        ((2, 3, 4),),
    ),
    Case(
        "glu beside the axis",
        "glu",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(F.glu(m.a(x), 1)),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "chunk, gelu and multiply",
        "chunk gelu mul",
        lambda: {"a": nn.Linear(3, 12), "z": nn.Linear(6, 2)},
        lambda m, x: m.z((c := m.a(x).chunk(2, -1))[0] * F.gelu(c[1])),
        {"a.weight:0[6]": Z},
    ),
)

ELEMENTWISE = (
    *KEEPS_ZERO,
    *MAKES_CONSTANT,
    *UNDEFINED_AT_ZERO,
    *BOUNDS,
    *POWERS,
    *PAIRS,
    *BROADCASTING,
    *VIEWS_IN_PLACE,
    *GATED,
)
