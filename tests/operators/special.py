"""Further elementwise operators: special functions, comparisons, bits, and chance."""

import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F
from torch import nn

from tests.operators.case import FOLDED, A, Case, M, Z, aten, chain, free, opaque

DOUBLE = torch.float64


def _all(text, guarantee, before=lambda x: x):
    return tuple(
        chain(name, getattr(aten, name), guarantee, before=before) for name in text.split()
    )


def _unread(name):
    return chain(
        name,
        lambda x: getattr(torch, name)(x) + x,
        FOLDED,
        weaker="of zero it is 0, which is not used",
    )


POLYNOMIALS = [
    f"special_{name}"
    for name in (
        "hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l",
        "legendre_polynomial_p",
        *(f"{shifted}chebyshev_polynomial_{k}" for shifted in ("", "shifted_") for k in "tuvw"),
    )
]  # fmt: skip

FUNCTIONS = (
    *_all(
        "absolute arctan arcsinh deg2rad rad2deg special_expm1 special_erf special_round "
        "special_i1 special_i1e",
        Z,
    ),
    *_all("arcsin arctanh special_erfinv", Z, torch.tanh),
    *_all("special_log1p special_entr", Z, torch.square),
    *_all(
        "sinc i0 special_expit special_exp2 special_erfc special_erfcx special_sinc special_i0 "
        "special_i0e special_ndtr special_log_ndtr",
        FOLDED,
    ),
    *_all("special_bessel_j1 special_modified_bessel_i1", Z),
    *_all(
        "special_airy_ai special_bessel_j0 special_modified_bessel_i0 special_spherical_bessel_j0",
        FOLDED,
    ),
    *_all(
        "special_bessel_y0 special_bessel_y1 special_modified_bessel_k0 special_modified_bessel_k1 "
        "special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1",
        A,
        torch.abs,
    ),
    *(chain(name, lambda x, name=name: getattr(aten, name)(x, 2), FOLDED) for name in POLYNOMIALS),
    *_all("arccos", FOLDED, torch.tanh),
    *_all("special_digamma special_psi special_gammaln", A, torch.abs),
    *_all("acosh arccosh", A, lambda x: x.abs().ceil()),
    *_all("logit special_logit special_ndtri", A, lambda x: x.tanh().abs()),
    chain("logit kept away from 0", lambda x: x.logit(0.1), FOLDED, covers="logit"),
    chain("logit of a probability", torch.logit, FOLDED, before=torch.sigmoid, covers="logit"),
    chain("polygamma", lambda x: torch.polygamma(1, x), A, before=torch.abs),
    chain("special_polygamma", lambda x: torch.special.polygamma(1, x), A, before=torch.abs),
    chain("mvlgamma", lambda x: torch.mvlgamma(x, 1), A, before=torch.abs),
    chain("special_multigammaln", lambda x: torch.special.multigammaln(x, 1), A, before=torch.abs),
    *(_unread(name) for name in ("isposinf", "isneginf")),
    chain("isreal", lambda x: torch.isreal(x) * x.cos(), FOLDED),
    chain("frexp", lambda x: torch.frexp(x)[0], Z),
    chain("chalf", lambda x: x.chalf().real.to(DOUBLE), Z),
    chain("float_power", lambda x: torch.float_power(x, 2), Z),
    chain("view.dtype", lambda x: x.view(torch.int64).view(torch.float64), Z),
    opaque("bytes of numbers", lambda y: y.view(torch.int32), covers="view.dtype"),
)


def two(name, call, groups, *, covers=""):
    """Linears 3 -> 6 and 3 -> 6, the call on both, linear 6 -> 2."""
    return Case(
        name,
        covers or name,
        lambda: {"a": nn.Linear(3, 6), "b": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(call(m.a(x), m.b(x)).to(DOUBLE)),
        {"a.weight:0[6]": groups},
    )


def _comparison(name, limit):
    return chain(name, lambda x: getattr(torch, name)(x, limit).to(DOUBLE), M)


def _whole(x):
    return (x * 8).round().long()


BOTH = (
    _comparison("not_equal", 0.5),
    _comparison("less", 0.5),
    _comparison("less_equal", 0.5),
    _comparison("greater", -0.5),
    _comparison("greater_equal", -0.5),
    two("isclose", lambda x, y: torch.isclose(x.round(), y.round()), M),
    two("arctan2", lambda x, y: torch.arctan2(x + 1, y), M),
    two("logaddexp", torch.logaddexp, M),
    two("logaddexp2", torch.logaddexp2, M),
    two("nextafter", lambda x, y: torch.nextafter(x + 1, y), M),
    two("copysign", torch.copysign, Z),
    two(
        "arctan2 of zeros of any sign",
        lambda x, y: torch.arctan2(-x.abs(), -y.exp()),
        M,
        covers="arctan2",
    ),
    two("copysign of a constant", lambda x, y: torch.copysign(x.cos(), y), M, covers="copysign"),
    two("ldexp", lambda x, y: torch.ldexp(x, y.round()), Z),
    *(
        two(name, lambda x, y, name=name: getattr(aten, name)(x.abs() + 1, y.exp()), M)
        for name in ("igamma", "igammac", "special_gammainc", "special_gammaincc")
    ),
    two("special_zeta", lambda x, y: torch.special.zeta(x.abs() + 2, y.abs() + 1), FOLDED),
    two("special_xlog1py", lambda x, y: torch.special.xlog1py(x, y.abs()), Z),
    two("special_xlogy", lambda x, y: torch.special.xlogy(x, y.exp()), Z),
    two("gcd", lambda x, y: torch.gcd(_whole(x), _whole(y)), Z),
    two("lcm", lambda x, y: torch.lcm(_whole(x), _whole(y)), Z),
    two("__xor__", lambda x, y: _whole(x) ^ _whole(y), Z),
    chain("__lshift__", lambda x: (_whole(x) << 1).to(DOUBLE), Z),
    chain("__rshift__", lambda x: (_whole(x) >> 1).to(DOUBLE), Z),
    chain("bitwise_left_shift", lambda x: torch.bitwise_left_shift(_whole(x), 1).to(DOUBLE), Z),
    chain("bitwise_right_shift", lambda x: torch.bitwise_right_shift(_whole(x), 1).to(DOUBLE), Z),
    two(
        "a constant shifted",
        lambda x, y: torch.bitwise_left_shift(_whole(x.cos()), _whole(y).relu()),
        FOLDED,
        covers="bitwise_left_shift",
    ),
)


def _drawn(name, make):
    """What is drawn for one unit depends on how many there are."""
    return chain(name, make, A)


CHANCE = (
    _drawn("rand", lambda x: x + torch.rand(x.shape)),
    _drawn("randn", lambda x: x + torch.randn(x.shape)),
    _drawn("randint", lambda x: x + torch.randint(0, 9, x.shape)),
    _drawn("randint_like", lambda x: x + torch.randint_like(x, 9)),
    _drawn("normal.float_float", lambda x: x + torch.normal(0.0, 1.0, x.shape)),
    _drawn("normal", lambda x: torch.normal(x, x.exp())),
    _drawn("poisson", lambda x: torch.poisson(x.exp())),
    _drawn("uniform", lambda x: x + torch.empty_like(x).uniform_()),
    _drawn("exponential", lambda x: x + torch.empty_like(x).exponential_()),
    _drawn("random", lambda x: x + torch.empty_like(x).random_(9)),
    _drawn("geometric", lambda x: x + torch.empty_like(x).geometric_(0.3)),
    _drawn("cauchy", lambda x: x + torch.empty_like(x).cauchy_().clamp(-9, 9)),
    _drawn("log_normal", lambda x: x + torch.empty_like(x).log_normal_()),
    opaque("multinomial", lambda y: torch.multinomial(y.exp(), 3)),
)


def _quantized_weight(m, x):
    weight = torch.fake_quantize_per_channel_affine(
        m.w.float(), m.scale.float(), m.zero.int(), 0, -127, 127
    )
    return m.z(F.linear(m.a(x), weight.double()).relu())


def _observed(name, guarantee, *, of_weight=True, observes=False, weaker=""):
    """Either the weight of the second layer, by channels, or what the first one makes."""
    size = 5 if of_weight else 1

    def quantized(m, x):
        ranges = (m.low.float(), m.high.float(), m.scale.float(), m.zero)
        return torch.fused_moving_avg_obs_fake_quant(
            x.float(), m.on, m.quantizes, *ranges, 0.01, -128, 127, 0, of_weight, of_weight
        ).double()

    def call(m, x):
        x, w = (m.a(x), quantized(m, m.w)) if of_weight else (quantized(m, m.a(x)), m.w)
        return m.z(F.linear(x, w).relu())

    return Case(
        name,
        "fused_moving_avg_obs_fake_quant",
        lambda: {
            "a": nn.Linear(3, 6),
            "w": free(5, 6),
            "on": nn.Buffer(torch.tensor([int(observes)])),
            "quantizes": nn.Buffer(torch.tensor([1])),
            "low": nn.Buffer(-torch.ones(size)),
            "high": nn.Buffer(torch.ones(size)),
            "scale": nn.Buffer(torch.linspace(0.01, 0.05, 5)[-size:]),
            "zero": nn.Buffer(torch.zeros(size, dtype=torch.int32)),
            "z": nn.Linear(5, 2),
        },
        call,
        {"w:0[5]": Z, "w:1[6]": guarantee},
        weaker=weaker,
    )


def _in_integers(m, x):
    """As in the graphs that quantization of exported programs makes."""
    q, ends = torch.ops.quantized_decomposed, (-128, 127, torch.int8)
    x = q.quantize_per_tensor(m.a(x).float(), 0.05, 3, *ends)
    x = q.dequantize_per_tensor(x, 0.05, 3, *ends).double()
    of_channels = (m.scale.float(), m.zero, 0, *ends)
    w = q.dequantize_per_channel(q.quantize_per_channel(m.w.float(), *of_channels), *of_channels)
    return m.z(F.linear(x, w.double()).relu())


QUANTIZED = (
    chain(
        "fake_quantize_per_tensor_affine",
        lambda x: torch.fake_quantize_per_tensor_affine(x, 0.05, 3, 0, 255),
        Z,
    ),
    chain(
        "fake_quantize_per_tensor_affine by tensors",
        lambda x: torch.fake_quantize_per_tensor_affine(
            x, torch.tensor([0.05]), torch.tensor([3], dtype=torch.int32), 0, 255
        ),
        FOLDED,
        covers="fake_quantize_per_tensor_affine",
        weaker="the zero point is in range",
    ),
    chain(
        "fake_quantize_per_tensor_affine without a zero",
        lambda x: torch.fake_quantize_per_tensor_affine(
            x, torch.tensor([0.05]), torch.tensor([3], dtype=torch.int32), 5, 255
        ),
        FOLDED,
        covers="fake_quantize_per_tensor_affine",
    ),
    _observed("fused_moving_avg_obs_fake_quant of activations", Z, of_weight=False),
    _observed("fused_moving_avg_obs_fake_quant of a weight", Z),
    _observed(
        "fused_moving_avg_obs_fake_quant that observes",
        A,
        observes=True,
        weaker="zeros change the ranges only where all weights have one sign",
    ),
    Case(
        "quantize and dequantize",
        " ".join(
            f"quantized_decomposed.{name}_per_{what}"
            for name in ("quantize", "dequantize")
            for what in ("tensor", "channel")
        ),
        lambda: {
            "a": nn.Linear(3, 6),
            "w": free(5, 6),
            "scale": nn.Buffer(torch.linspace(0.01, 0.05, 5)),
            "zero": nn.Buffer(torch.zeros(5, dtype=torch.int64)),
            "z": nn.Linear(5, 2),
        },
        _in_integers,
        {"w:0[5]": Z, "w:1[6]": M},
        weaker="that a zero point becomes zero again is not followed",
    ),
    Case(
        "fake_quantize_per_channel_affine",
        "fake_quantize_per_channel_affine",
        lambda: {
            "a": nn.Linear(3, 6),
            "w": free(5, 6),
            "scale": nn.Buffer(torch.linspace(0.01, 0.05, 5)),
            "zero": nn.Buffer(torch.arange(5.0)),
            "z": nn.Linear(5, 2),
        },
        _quantized_weight,
        {"w:0[5]": Z, "w:1[6]": Z},
    ),
)

# A norm folded into the weights before it, and taken out of what they make again.
UNDONE = (
    Case(
        "div by a gain that is in the weight",
        "div",
        lambda: {"a": nn.Linear(3, 6, bias=False), "g": free(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(F.linear(x, m.a.weight * m.g[:, None]) / m.g + m.g),
        {"g:0[6]": M},
    ),
)

SPECIAL = (*UNDONE, *FUNCTIONS, *BOTH, *CHANCE, *QUANTIZED)
