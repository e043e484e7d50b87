"""Images to bytes and back: codes on a grid, entropy-coded (Ballé et al., 2017, section 2).

A code is rounded to multiples of a step. A range coder, that of the package *constriction*, then spends on
each number about as many bits as a `Prior` says that it is worth.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from constriction import stream
from numpy.typing import ArrayLike

from aelib import checks

if TYPE_CHECKING:
    from aelib.autoencoder import Autoencoder

HEADER = struct.Struct("<2sBII")  # magic, version and flag, checksum, number of images
PRIOR = struct.Struct("<Bfi")  # family, step, number of units
MAGIC, VERSION, OWN_PRIOR = b"ae", 1, 0x80
LIMIT = 2**15  # whole numbers from -LIMIT to LIMIT - 1 can be coded
FAMILIES = ("laplace", "gaussian")
_FILL = "drop or fill these rows before they are encoded"


@dataclass(frozen=True, eq=False)
class Prior:
    """What sender and receiver expect of a code: a distribution for each unit, and the step of the grid.

    Parameters
    ----------
    step : float
        Distance of two neighbouring values of the grid, in the code's own units.
    family : {"laplace", "gaussian"}
    location, scale : ndarray (K,) of float32
        Of each unit, in steps: median and mean deviation from it, or mean and standard deviation.
    """

    step: float
    family: str
    location: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, codes: ArrayLike, step: float) -> Self:
        """Fit both families to training codes, (n, K), and return the one that needs fewer bits for them."""
        codes = np.asarray(checks.array("codes", codes), np.float64)
        if codes.ndim != 2 or not codes.size:
            raise ValueError(f"codes must have shape (n >= 1, K >= 1), got {codes.shape}")
        checks.finite("codes", codes, remedy=_FILL)
        step = float(np.float32(checks.number("step", step, above=0)))  # as it is stored
        grid = codes / step
        middle = np.median(grid, axis=0)
        fits = (
            ("laplace", middle, np.abs(grid - middle).mean(axis=0)),
            ("gaussian", grid.mean(axis=0), grid.std(axis=0)),
        )
        # A unit that never moves still gets a distribution; 0.1 steps cost it next to nothing.
        priors = [cls(step, f, np.float32(m), np.float32(np.maximum(s, 0.1))) for f, m, s in fits]  # type: ignore[arg-type]
        return min(priors, key=lambda prior: len(prior.pack(prior.round(codes))))

    def round(self, codes: ArrayLike) -> np.ndarray:
        """Return the multiples of the step next to `codes`: (n, K) -> int32 (n, K)."""
        codes = np.asarray(checks.array("codes", codes), np.float64)
        if codes.ndim != 2 or codes.shape[1] != len(self.location):
            raise ValueError(f"codes must have shape (n, {len(self.location)}), got {codes.shape}")
        checks.finite("codes", codes, remedy=_FILL)
        grid = np.round(codes / self.step)
        if not (np.abs(grid + 0.5) < LIMIT).all():
            worst = np.abs(codes).max()
            raise ValueError(
                f"codes must be within {LIMIT} steps of {self.step:g}, got {worst:g}: take a larger step"
            )
        return grid.astype(np.int32)

    def _model(self, rows: int) -> tuple[Any, ...]:
        """Return the range coder's model, and its parameters for as many codes."""
        model = stream.model
        kind = model.QuantizedLaplace if self.family == "laplace" else model.QuantizedGaussian
        tiled = (np.tile(part.astype(np.float64), rows) for part in (self.location, self.scale))
        return kind(-LIMIT, LIMIT - 1), *tiled

    def pack(self, grid: np.ndarray) -> bytes:
        """Entropy-code multiples of the step: int32 (n, K) -> bytes."""
        coder = stream.queue.RangeEncoder()
        coder.encode(grid.ravel(), *self._model(len(grid)))
        return coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")

    def unpack(self, data: bytes, rows: int) -> np.ndarray:
        """Return the multiples of the step that `pack` was given: bytes -> int32 (rows, K)."""
        words = np.frombuffer(data + bytes(-len(data) % 4), "<u4").astype(np.uint32)
        return stream.queue.RangeDecoder(words).decode(*self._model(rows)).reshape(rows, -1)

    def to_bytes(self) -> bytes:
        """Return the prior as bytes, eight a unit and nine more."""
        start = PRIOR.pack(FAMILIES.index(self.family), self.step, len(self.location))
        return start + self.location.astype("<f4").tobytes() + self.scale.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote; raises ValueError where it cannot be that."""
        if len(data) < PRIOR.size:
            raise ValueError(f"a prior has at least {PRIOR.size} bytes, got {len(data)}")
        family, step, units = PRIOR.unpack_from(data)
        if family >= len(FAMILIES) or not step > 0 or len(data) != PRIOR.size + 8 * units:
            raise ValueError(f"not a prior: family {family}, step {step:g}, {units} units, {len(data)} bytes")
        location, scale = np.frombuffer(data, "<f4", offset=PRIOR.size).reshape(2, units)
        return cls(step, FAMILIES[family], location, scale)


def allocate_bits(variances: ArrayLike, bits: int, *, most: int = 16) -> np.ndarray:
    """Share out bits among the numbers of a code, so that the squared error of rounding is least.

    Each further bit halves a quantizer's step and leaves a quarter of its squared error, σ²·4⁻ᵇ (at high
    resolution; Gersho & Gray, 1992, chapter 8), so it goes where most error is left: reverse water-filling
    (Cover & Thomas, 2006, section 10.3.3) in whole bits. It is for numbers that are stored in a fixed number
    of bits each; where they are entropy-coded, one step for all does the same (`Prior`).

    Parameters
    ----------
    variances : array (K,)
        Of each number over the training codes; times the square of what the decoder amplifies it by, where
        that is known and the error of the reconstruction counts.
    bits : int
        For a whole code.
    most : int
        For one number.

    Returns
    -------
    ndarray (K,) of int
        They add up to `bits`. Scikit-learn's ``KBinsDiscretizer(2**b, encode="ordinal", strategy="kmeans")``
        quantizes the numbers whose b is above 0; the mean stands for the others.

    Raises
    ------
    ValueError
        If the variances are not finite or below 0, or `bits` is above K · `most`.
    """
    variances = checks.samples("variances", variances).astype(np.float64)
    if variances.ndim != 1:
        raise ValueError(f"variances must have shape (K,), got {variances.shape}: take codes.var(axis=0)")
    checks.within("variances", variances, 0, np.inf, remedy="take codes.var(axis=0)")
    bits, most = checks.whole_number("bits", bits, least=0), checks.whole_number("most", most)
    if bits > most * len(variances):
        raise ValueError(
            f"bits must be at most {most * len(variances)}, {most} for each of {len(variances)} numbers, got "
            f"{bits}: raise most"
        )
    left = variances[:, None] * 0.25 ** np.arange(most)  # (K, most): the error that a bit finds
    chosen = np.argsort(-left, axis=None, kind="stable")[:bits]
    return np.bincount(chosen // most, minlength=len(variances))


def _checksum(model: Autoencoder, prior: Prior, count: int, payload: bytes) -> int:
    """Return a checksum of all that has to be right for decoding: the decoder's weights too."""
    total = zlib.crc32(struct.pack("<I", count) + prior.to_bytes() + payload)
    for weights in model.decoder.get_weights():
        total = zlib.crc32(np.ascontiguousarray(weights).tobytes(), total)
    return total


def encode_to_bytes(
    model: Autoencoder, x: Any, *, prior: Prior | None = None, step: float | None = None
) -> bytes:
    """Compress images with an autoencoder: (n, ...) -> bytes.

    Parameters
    ----------
    model : Autoencoder
        Its code must have the shape (n, K). The receiver needs its decoder.
    x : array (n, ...)
        Or whatever else `Autoencoder.encode` takes.
    prior : Prior, optional
        Known to the receiver. Without it one is fitted to the codes of `x` and travels along.
    step : float, optional
        Of that fitted prior; needed where `prior` is not given, and only there.

    Returns
    -------
    bytes
        A header of 11 bytes, the prior where it is not shared, and the entropy-coded numbers.
    """
    if (prior is None) == (step is None):
        raise ValueError(f"give either a prior or a step, got prior={prior!r} and step={step!r}")
    codes = model.encode(x)
    own = b""
    if prior is None:
        prior = Prior.fit(codes, step)  # type: ignore[arg-type]
        own = prior.to_bytes()
    payload = prior.pack(prior.round(codes))
    flag = VERSION | (OWN_PRIOR if own else 0)
    return HEADER.pack(MAGIC, flag, _checksum(model, prior, len(codes), payload), len(codes)) + own + payload


def decode_from_bytes(model: Autoencoder, data: bytes, *, prior: Prior | None = None) -> np.ndarray:
    """Return the images that `encode_to_bytes` wrote: bytes -> ndarray (n, ...).

    Parameters
    ----------
    model : Autoencoder
        With the very decoder that the sender's has.
    data : bytes
    prior : Prior, optional
        Needed where the sender shared one.

    Raises
    ------
    ValueError
        If the data are damaged or cut short, or belong to another decoder or prior.
    """
    if len(data) < HEADER.size or data[:2] != MAGIC:
        raise ValueError(f"not a file of this format: {len(data)} bytes that begin with {bytes(data[:2])!r}")
    _, flag, checksum, count = HEADER.unpack_from(data)
    if flag & ~OWN_PRIOR != VERSION:
        raise ValueError(f"format version {flag & ~OWN_PRIOR} is not known, only {VERSION}")
    payload = bytes(data[HEADER.size :])
    if flag & OWN_PRIOR:
        units = PRIOR.unpack_from(payload)[2] if len(payload) >= PRIOR.size else 0
        end = PRIOR.size + 8 * max(units, 0)
        prior, payload = Prior.from_bytes(payload[:end]), payload[end:]
    elif prior is None:
        raise ValueError("the sender shared a prior: give it as prior=, got None")
    found = _checksum(model, prior, count, payload)
    if found != checksum:
        raise ValueError(
            f"checksum {found:08x} where {checksum:08x} was expected: "
            "the data are damaged, or belong to another decoder or prior"
        )
    return model.decode((prior.step * prior.unpack(payload, count)).astype("float32"))
