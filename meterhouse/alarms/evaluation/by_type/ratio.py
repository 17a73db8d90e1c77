"""The values of a ratio: those of one window divided by those of another, by period."""

from meterhouse.alarms.evaluation.windows import Window


def values(numerator: Window, denominator: Window) -> list[float]:
    """The ratios of the periods that both have, oldest first; without those whose divisor is 0."""
    divisors = dict(zip(denominator.starts, denominator.values, strict=True))
    pairs = [(value, divisors.get(start)) for start, value in zip(numerator.starts, numerator.values, strict=True)]
    return [value / divisor for value, divisor in pairs if divisor]
