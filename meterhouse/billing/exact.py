"""Exact numbers in columns: floats as the decimals that they are written as, sums, and the one rounding.

A float stands for the shortest decimal that reads back as it: 0.1 is a tenth. All sums and products are of integers, so
that neither the order of rows nor the way in which a period is cut changes them.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from meterhouse.billing.lines import DECIMAL
from meterhouse.definitions.prices import DIGITS, Rounding

Integers = NDArray[Any]
"""int64, or Python's integers (dtype object) if they may be larger."""

_SAFE: Final = float(1 << 62)
_WIDE: Final = 38
"""Digits after the point in sums of volumes: a float of 17 digits needs them down to 1e-21."""

_CHUNK: Final = 1_000_000


def decimals(values: NDArray[np.float64]) -> tuple[Integers, int]:
    """Finite floats as integers, and the number of digits after the point that these have.

    Meant for columns of few distinct values, such as sizes.
    """
    distinct, places = np.unique(values, return_inverse=True)
    exact = [Decimal(repr(each)) for each in distinct.tolist()]
    digits = max(0, *(-_exponent(each) for each in exact)) if exact else 0
    return integers([_scaled(each, digits) for each in exact])[places.reshape(-1)], digits


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)  # finite
    return exponent


def _scaled(value: Decimal, digits: int) -> int:
    sign, figures, _ = value.as_tuple()
    whole: int = int("".join(map(str, figures))) * 10 ** (digits + _exponent(value))
    return -whole if sign else whole


def integers(values: Sequence[int]) -> Integers:
    """Integers as a column: int64 if all of them fit."""
    fits = all(-(1 << 62) < each < 1 << 62 for each in values)
    return np.array(values, np.int64 if fits else object)


def product(left: Integers, right: NDArray[np.int64]) -> Integers:
    """The products of two columns, in int64 if their sum fits into it as well."""
    bound = float(np.abs(left).max(initial=0)) * float(np.abs(right).sum(dtype=np.float64))
    if left.dtype == object or bound >= _SAFE:
        exact: Integers = left.astype(object) * right.astype(object)
        return exact
    return left * right


def sums(values: Integers, starts: NDArray[np.int64]) -> list[int]:
    """The sum of each group of adjoining rows, by the row at which it starts."""
    if not len(starts):
        return []
    if values.dtype != object and float(np.abs(values).sum(dtype=np.float64)) >= _SAFE:
        values = values.astype(object)
    return [int(each) for each in np.add.reduceat(values, starts).tolist()]


def sums_of_floats(values: NDArray[np.float64], starts: NDArray[np.int64]) -> tuple[list[int], int]:
    """The exact sum of each group of adjoining rows of finite floats, and how many digits after the point it has."""
    if not len(starts):
        return [], 0
    if bool((np.rint(values) == values).all()) and float(np.abs(values).sum()) < float(1 << 53):
        return sums(values.astype(np.int64), starts), 0
    small = values != 0
    small &= np.abs(values) < 1e-20
    if bool(small.any()) or float(np.abs(values).sum()) >= 1e36:
        return _sums_one_by_one(values, starts)
    lengths = np.diff(np.append(starts, len(values)))
    groups = np.repeat(np.arange(len(starts)), lengths)
    found = [0] * len(starts)
    for first in range(0, len(values), _CHUNK):
        part = pc.cast(pc.cast(pa.array(values[first : first + _CHUNK]), pa.string()), pa.decimal256(76, _WIDE))
        table = pa.table({"group": groups[first : first + _CHUNK], "value": part})
        total = table.group_by("group").aggregate([("value", "sum")])
        for group, value in zip(total["group"].to_pylist(), total["value_sum"].to_pylist(), strict=True):
            found[group] += _scaled(value, _WIDE)
    return found, _WIDE


def _sums_one_by_one(values: NDArray[np.float64], starts: NDArray[np.int64]) -> tuple[list[int], int]:
    exact = [Decimal(repr(each)) for each in values.tolist()]
    digits = max(0, *(-_exponent(each) for each in exact))
    return sums(np.array([_scaled(each, digits) for each in exact], object), starts), digits


def rounder(mode: Rounding) -> Callable[[int, int], int]:
    """Divides two integers (the second above 0) and rounds the result to a whole number; signs are symmetric."""
    positive: Callable[[int, int], int]
    match mode:
        case "half_up":

            def positive(number: int, by: int) -> int:
                return (2 * number + by) // (2 * by)

        case "half_down":

            def positive(number: int, by: int) -> int:
                return -((by - 2 * number) // (2 * by))

        case "half_even":

            def positive(number: int, by: int) -> int:
                whole, rest = divmod(number, by)
                return whole + (2 * rest > by or (2 * rest == by and whole & 1 == 1))

        case "up":

            def positive(number: int, by: int) -> int:
                return -(-number // by)

        case "down":

            def positive(number: int, by: int) -> int:
                return number // by

    return lambda number, by: positive(number, by) if number >= 0 else -positive(-number, by)


def divided(numbers: Sequence[int], times: Sequence[int], by: int, mode: Rounding) -> list[int]:
    """Each number, from 0, times its factor, divided by the same divisor and rounded to a whole number."""
    if mode == "half_up":
        double = 2 * by
        return [(2 * number * factor + by) // double for number, factor in zip(numbers, times, strict=True)]
    divide = rounder(mode)
    return [divide(number * factor, by) for number, factor in zip(numbers, times, strict=True)]


def column(values: Sequence[int | None], digits: int) -> pa.Array:
    """Integers of a number of digits after the point (at most `DIGITS`) as a column of decimals.

    Raises:
        OverflowError: one of them has more than 26 digits before the point.
    """
    times = 10 ** (DIGITS - digits)
    known = [each is not None for each in values]
    whole = [each or 0 for each in values]
    largest = max(map(abs, whole), default=0) * times
    if largest < 1 << 62:
        low = np.array(whole, np.int64) * times
        content = np.stack([low, low >> 63], axis=1).tobytes()
    elif largest < 10**DECIMAL.precision:
        content = b"".join([(each * times).to_bytes(16, "little", signed=True) for each in whole])
    else:
        raise OverflowError("an amount has too many digits")
    made = pa.Array.from_buffers(DECIMAL, len(whole), [None, pa.py_buffer(content)])
    return made if all(known) else pc.if_else(pa.array(known), made, pa.scalar(None, DECIMAL))
