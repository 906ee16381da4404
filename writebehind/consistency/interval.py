"""The interval in which a fraction lies that was sampled, and nines."""

from __future__ import annotations

from math import exp, lgamma, log, log1p, log10, sqrt

#: Chance that the fraction lies outside.
ALPHA = 0.05
#: Quantile of the normal distribution for it.
Z = 1.959963984540054
#: From so many of both kinds on the exact interval and Wilson's are the same for all that a reader sees.
MANY = 1_000
#: Steps that halve an interval to the precision of a double, and terms that the continued fraction may take.
_HALVINGS, _TERMS = 200, 10_000
_TINY, _PRECISION = 1e-300, 1e-14
#: Less of a look is none.
_NONE = 1e-6
#: Below this power of e a chance is none.
_LEAST_EXPONENT = -700.0


def interval(wrong: float, samples: float) -> tuple[float, float]:
    """The 95 % interval of a fraction of which `wrong` of so many independent samples were seen.

    That of Clopper and Pearson, which is never too narrow: where none was wrong its end is about 3.7 divided by
    the number of samples. Both need not be whole, as with Korn and Graubard, who take fewer samples where they
    hang together.

    Args:
        wrong: not above `samples`.
        samples: 0 for none, of which nothing is known: then the interval is everything.
    """
    if samples <= 0:
        return 0.0, 1.0
    right = samples - wrong
    if min(wrong, right) > MANY:
        return _wilson(wrong / samples, samples)
    low = 0.0 if wrong < _NONE else _quantile(ALPHA / 2, wrong, right + 1)
    high = 1.0 if right < _NONE else _quantile(1 - ALPHA / 2, wrong + 1, right)
    return low, high


def nines(wrong: float) -> float | None:
    """The nines of a fraction of which so much is wrong: 3 for 0.001, 0 for all of it; `None` where nothing is."""
    return None if wrong <= 0 else max(0.0, -log10(wrong))  # which is -0.0 for 1


def _wilson(fraction: float, samples: float) -> tuple[float, float]:
    spread = Z * sqrt(fraction * (1 - fraction) / samples + (Z / samples) ** 2 / 4)
    middle, scale = fraction + Z * Z / samples / 2, 1 + Z * Z / samples
    return (middle - spread) / scale, (middle + spread) / scale


def _quantile(chance: float, a: float, b: float) -> float:
    """The value that a Beta(a, b) is below with this chance."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if _below(middle, a, b) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _below(x: float, a: float, b: float) -> float:
    """The chance that a Beta(a, b) is below x: the regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _below(1 - x, b, a)
    front = lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)
    return 0.0 if front < _LEAST_EXPONENT else exp(front) / a * _continued(x, a, b)


def _continued(x: float, a: float, b: float) -> float:
    """The continued fraction of it, by Lentz's method: DLMF 8.17.22."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or _TINY)
    value = d
    for half in range(1, _TERMS):
        even = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        odd = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        change = 1.0
        for coefficient in (even, odd):
            d = 1 / (1 + coefficient * d or _TINY)
            c = 1 + coefficient / c or _TINY
            change = c * d
            value *= change
        if abs(change - 1) < _PRECISION:
            break
    return value
