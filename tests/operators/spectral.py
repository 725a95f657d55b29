"""Fourier transforms and complex numbers: what is zero stays zero, along other axes."""

import torch
from torch import nn

from tests.operators.case import Case, M, Z, aten, opaque, tokens

fft = torch.fft
ONE = (fft.fft, fft.ifft, fft.rfft, fft.irfft, fft.hfft, fft.ihfft)
TWO = (fft.fft2, fft.ifft2, fft.rfft2, fft.irfft2, fft.hfft2, fft.ihfft2)
SEVERAL = (fft.fftn, fft.ifftn, fft.rfftn, fft.irfftn, fft.hfftn, fft.ihfftn)


def _real(x):
    return torch.view_as_real(x.resolve_conj()).sum(-1) if x.is_complex() else x


def _pair(op, inside, outside):
    """The transform beside the axis lets it pass, over the axis it pins it."""
    name = op.__name__
    return (
        tokens(
            f"{name} beside the axis",
            lambda x: _real(inside(x))[:, :2],
            Z,
            covers=name,
        ),
        opaque(f"{name} over the axis", outside, covers=name),
    )


def _windowed(m, x):
    """Windows over time of every feature."""
    y = m.a(x).mT.flatten(0, 1)
    s = torch.stft(y, 4, 2, window=torch.hann_window(4, dtype=torch.float64), return_complex=True)
    return m.z((s.abs() ** 2).sum((1, 2)).view(2, 6))


def _windowed_back(m, x):
    y = m.a(x).mT.flatten(0, 1)
    window = torch.hann_window(4, dtype=torch.float64)
    s = torch.stft(y, 4, 2, window=window, return_complex=True)
    return m.z(torch.istft(s, 4, 2, window=window).view(2, 6, 12).mT)


TRANSFORMS = (
    *(case for op in ONE for case in _pair(op, lambda x, op=op: op(x, dim=1), op)),
    *(
        case
        for op in (*TWO, *SEVERAL)
        for case in _pair(
            op, lambda x, op=op: op(x.unflatten(1, (2, 2)), dim=(1, 2)).flatten(1, 2), op
        )
    ),
    *_pair(fft.fftshift, lambda x: fft.fftshift(x, dim=1), fft.fftshift),
    *_pair(fft.ifftshift, lambda x: fft.ifftshift(x, dim=1), fft.ifftshift),
    opaque(
        "fftn of given sizes", lambda y: fft.fftn(y, s=(4, 3)), covers="fft_fftn", shape=(2, 4, 6)
    ),
    Case(
        "stft",
        "stft hann_window",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        _windowed,
        {"a.weight:0[6]": Z},
        ((2, 12, 3),),
    ),
    Case(
        "istft",
        "stft istft",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        _windowed_back,
        {"a.weight:0[6]": Z},
        ((2, 12, 3),),
    ),
    tokens("_fft_r2c", lambda x: _real(aten._fft_r2c(x, [1], 0, True)), Z),
    tokens("_fft_c2c", lambda x: _real(aten._fft_c2c(torch.complex(x, x * 2), [1], 0, True)), Z),
    tokens("_fft_c2r", lambda x: aten._fft_c2r(torch.complex(x, x * 2), [1], 0, 4), Z),
    opaque("stft over the axis", lambda y: torch.stft(y, 4, return_complex=True), covers="stft"),
)

COMPLEX = (
    tokens("complex", lambda x: torch.complex(x, x * 2).abs(), Z),
    tokens("complex, real and imaginary part", lambda x: _parts(torch.complex(x, x * 2)), Z,
           covers="complex real imag"),
    tokens("_conj", lambda x: torch.complex(x, x * 2).conj().imag, Z),
    tokens("resolve_conj", lambda x: torch.complex(x, x * 2).conj().resolve_conj().imag, Z),
    tokens("resolve_neg", lambda x: torch.complex(x, x * 2).conj().imag.resolve_neg(), Z),
    tokens("conj_physical", lambda x: torch.conj_physical(torch.complex(x, x * 2)).imag, Z),
    tokens("angle", lambda x: torch.complex(x, x.sin()).angle(), Z),
    tokens("polar", lambda x: torch.polar(x, x.sin()).imag, Z),
    tokens("polar of a constant", lambda x: torch.polar(x.exp(), x).real, M, covers="polar"),
    tokens(
        "view_as_real and view_as_complex",
        lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (3, 2)))).flatten(-2),
        {"a.weight:0/0[3]": Z},
        covers="view_as_real view_as_complex",
    ),
    tokens(
        "rotary positions as complex numbers",
        lambda x: torch.view_as_real(
            torch.view_as_complex(x.view(5, 4, 4, 3, 2))
            * torch.polar(
                torch.ones(4, 3, dtype=torch.float64),
                torch.outer(torch.arange(4.0), torch.arange(3.0)).double(),
            )[:, None]
        ).flatten(2),
        {"a.weight:0/0[4]": Z},
        covers="view_as_real view_as_complex polar outer",
        width=24,
    ),
)  # fmt: skip


def _parts(x):
    return x.real + x.imag


SPECTRAL = (*TRANSFORMS, *COMPLEX)
