"""Random numbers as a function of what they are for: (seed, epoch, sample, stream), with no state to save.

A run that resumes needs to know only its epoch and batch, and a picture is changed alike in whatever batch it stands.
The numbers are those of Philox4x32-10, a counter-based generator that passes BigCrush: ten rounds of multiplication on
integers, hence the same bits on every machine. The key is the seed; the counter holds sample, epoch, stream and place.
Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011, §3.3 and table 2.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

# Streams keep uses apart that share seed, epoch and sample. 0, 1, 2 … are the places in an augmentation policy.
ORDER_STREAM: Final = 2**32 - 1
MIXUP_STREAM: Final = 2**32 - 2
CUTMIX_STREAM: Final = 2**32 - 3

_WORD: Final = np.uint64(0xFFFFFFFF)
_MULTIPLIERS: Final = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS: Final = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and √3 − 1, in 32 bits
_ROUNDS: Final = 10


def uniforms(seed: int, epoch: int, samples: npt.NDArray[np.int64], stream: int, count: int) -> npt.NDArray[np.float64]:
    """`count` numbers for each sample, uniform in [0, 1), multiples of 2⁻⁵³.

    seed: 0 to 2⁶⁴ − 1. epoch, stream: 0 to 2³² − 1. samples: (n,) of the same range, places in the whole set.
    Returns (n, count). The first k of them are the same for every count ≥ k.
    Raises ValueError outside these ranges.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    high, low = np.divmod(_words(seed, epoch, samples, stream, -(-count // 2)), np.uint64(2**32))
    joined = (high >> np.uint64(5)) * np.uint64(2**26) + (low >> np.uint64(6))  # 27 + 26 bits
    return (joined.astype(np.float64) * 2.0**-53).reshape(len(samples), -1)[:, :count]


def order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which an epoch takes `count` samples: a permutation of 0 … count − 1, each equally likely.

    seed, epoch: as `uniforms` takes them. Returns (count,). Raises ValueError outside these ranges.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    keys = _words(seed, epoch, np.arange(count), ORDER_STREAM, 1)[:, 0, 0]  # (count,), 64 random bits each
    return np.argsort(keys, kind="stable").astype(np.int64)


def _words(seed: int, epoch: int, samples: npt.NDArray[np.int64], stream: int, blocks: int) -> npt.NDArray[np.uint64]:
    """(n, blocks, 2) random words of 64 bits."""
    _refuse_outside("seed", seed, 2**64)
    _refuse_outside("epoch", epoch, 2**32)
    _refuse_outside("stream", stream, 2**32)
    if samples.ndim != 1 or samples.dtype.kind not in "iu":
        raise ValueError(f"samples must be whole numbers (n,), got {samples.dtype} {samples.shape}")
    if samples.size:
        _refuse_outside("samples", int(samples.min()), 2**32)
        _refuse_outside("samples", int(samples.max()), 2**32)
    shape = (len(samples), blocks)
    counter = (
        np.broadcast_to(samples.astype(np.uint64)[:, None], shape),
        np.broadcast_to(np.uint64(epoch), shape),
        np.broadcast_to(np.uint64(stream), shape),
        np.broadcast_to(np.arange(blocks, dtype=np.uint64), shape),
    )
    a, b, c, d = _philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    return np.stack([a << np.uint64(32) | b, c << np.uint64(32) | d], axis=-1)


def _philox(counter: tuple[npt.NDArray[np.uint64], ...], key: tuple[int, int]) -> tuple[npt.NDArray[np.uint64], ...]:
    """Philox4x32-10: four words of counter, two of key → four random words; words of 32 bits, kept in 64."""
    a, b, c, d = counter
    for i in range(_ROUNDS):
        left, right = (np.uint64((word + i * step) & 0xFFFFFFFF) for word, step in zip(key, _KEY_STEPS, strict=True))
        p, q = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]  # 64 bits: no product of two words overflows
        a, b, c, d = (q >> np.uint64(32)) ^ b ^ left, q & _WORD, (p >> np.uint64(32)) ^ d ^ right, p & _WORD
    return a, b, c, d


def _refuse_outside(name: str, value: int, end: int) -> None:
    if not 0 <= value < end:
        raise ValueError(f"{name} must be at least 0 and below 2**{end.bit_length() - 1}, got {value}")
