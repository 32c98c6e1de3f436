"""What a noisy curve does: its moving average, how noisy it is, and how it slopes.

All of it is robust: a few values far off, as single minibatches give, change little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SIGMAS_PER_MAD: Final = 1.4826  # of a normal distribution, 1 / Φ⁻¹(3/4)
_MOST_POINTS: Final = 400  # Theil–Sen looks at all pairs: 80,000 of them take a few milliseconds

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """The slope of y over x, and its 95 % interval."""

    slope: float
    low: float
    high: float

    @property
    def falls(self) -> bool:
        """Whether noise alone would hardly give this fall."""
        return self.high < 0

    @property
    def rises(self) -> bool:
        """Whether noise alone would hardly give this rise."""
        return self.low > 0


def moving_average(values: Curve, width: int) -> Curve:
    """(n,) → (n,) means over `width` neighbours, centred; fewer at the ends. Values that are not finite are left out.

    Where a whole window is not finite, so is its mean.
    """
    finite = np.isfinite(values)
    ahead = (width - 1) // 2
    edge = np.arange(len(values))
    first, last = np.maximum(edge - width // 2, 0), np.minimum(edge + ahead + 1, len(values))
    total = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    sums, counts = total[last] - total[first], count[last] - count[first]
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def noise(values: Curve, width: int = 5) -> float:
    """The standard deviation of finite values (n,) around their moving average, from the median residual.

    0 for fewer than three values. A mean of w values that holds the value itself takes 1/w of its variance away,
    which is put back.
    """
    if len(values) < 3:
        return 0.0
    residuals = values - moving_average(values, width)
    return float(_SIGMAS_PER_MAD * np.median(np.abs(residuals)) / np.sqrt(1 - 1 / min(width, len(values))))


def trend(x: Curve, y: Curve) -> Trend:
    """How finite y (n,) slopes over x (n,), n ≥ 2: the median of the slopes between all pairs of points.

    Source: Sen, J. Am. Stat. Assoc. 63, 1968; the interval is the one of that paper, by `scipy.stats.theilslopes`.
    """
    from scipy.stats import theilslopes

    if len(x) > _MOST_POINTS:
        kept = np.linspace(0, len(x) - 1, _MOST_POINTS).round().astype(np.int64)
        x, y = x[kept], y[kept]
    slope, _, low, high = theilslopes(y, x)
    return Trend(float(slope), float(low), float(high))
