"""Discounts, minimums and taxes: lines that are computed from the rounded amounts of other lines."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from meterhouse import times
from meterhouse.billing import exact
from meterhouse.definitions.prices import Prices, Rule, matches

TAX: Final = "Tax"
"""The service of taxes."""


@dataclass
class Sum:
    """What the lines of a project, a price and a part of the month come to.

    Attributes:
        project, price, service: what the lines have in common.
        cut: the start of the part, in microseconds since the UNIX epoch; no discount or tax starts or ends in a part.
        start, end: the first and the last instant of the lines.
        amount: the sum, in multiples of the smallest amount; discounts lower it.
    """

    project: str
    price: str
    service: str
    cut: int
    start: int
    end: int
    amount: int


@dataclass(frozen=True)
class Computed:
    """A line that is computed from others. Amounts are in multiples of the smallest amount.

    Attributes:
        about: what it is about besides the attributes, for its id.
        base: what a tax is computed from; None for others.
        percent: the rate of a tax.
    """

    kind: str
    project: str
    price: str
    service: str
    description: str
    start: int
    end: int
    amount: int
    about: tuple[object, ...] = field(default=())
    base: int | None = None
    percent: Decimal | None = None


def computed(sums: Sequence[Sum], prices: Prices, start: int, end: int) -> list[Computed]:
    """The discounts, minimums and taxes of a month, each rounded once.

    Each discount lowers what those before it in the file have left, down to nothing. A minimum then counts what is
    left, and the minimums before it. Taxes are computed from all of these, each for itself.

    Args:
        sums: the sums of the priced lines, ordered by project, price and part of the month.
        prices: the rules.
        start, end: the month, in microseconds since the UNIX epoch.
    """
    sums = list(sums)
    made = list[Computed]()
    for nth, rule in _numbered(prices.discounts):
        of = _belonging(sums, rule)
        made += _by_percent(of, rule, nth, prices) if rule.percent is not None else _by_amount(of, rule, nth, prices)
    for nth, rule in _numbered(prices.minimums):
        first, last = _validity(rule, start, end)
        if first >= last:
            continue
        for project, of in _by_project(_belonging(sums, rule)):
            missing = _units(rule.amount, prices) - sum(each.amount for each in of)
            if missing > 0:
                about = (rule.name, nth)
                line = Computed("minimum", project, rule.name, rule.service, rule.name, first, last, missing, about)
                made.append(line)
                sums.append(Sum(project, rule.name, rule.service, first, first, last, missing))
    divide = exact.rounder(prices.rounding)
    for nth, rule in _numbered(prices.taxes):
        first, last = _validity(rule, start, end)
        rate = rule.percent or Decimal(0)
        numerator, denominator = rate.as_integer_ratio()
        for project, of in _by_project(_belonging(sums, rule)):
            base = sum(each.amount for each in of)
            amount = divide(base * numerator, denominator * 100)
            description = f"{rule.name} {rate:f} %"
            about = (rule.name, nth)
            made.append(Computed("tax", project, rule.name, TAX, description, first, last, amount, about, base, rate))
    return made


def _by_percent(of: Iterable[Sum], rule: Rule, nth: int, prices: Prices) -> Iterator[Computed]:
    divide = exact.rounder(prices.rounding)
    numerator, denominator = (rule.percent or Decimal(0)).as_integer_ratio()
    description = f"{rule.name} {rule.percent:f} %"
    for each in of:
        yield from _lowered(each, divide(each.amount * numerator, denominator * 100), description, (rule.name, nth))


def _by_amount(of: Sequence[Sum], rule: Rule, nth: int, prices: Prices) -> Iterator[Computed]:
    """A fixed amount for each project, spread over its prices by what they come to; the shares add up to it."""
    for _, part in _by_project(of):
        total = sum(each.amount for each in part)
        left = min(_units(rule.amount, prices), total)
        before = given = 0
        for each in part:
            before += each.amount
            share = left * before // total - given if total else 0
            given += share
            yield from _lowered(each, share, rule.name, (rule.name, nth))


def _lowered(of: Sum, by: int, description: str, about: tuple[object, ...]) -> Iterator[Computed]:
    if by:
        of.amount -= by
        start, end = of.start, of.end
        yield Computed("discount", of.project, of.price, of.service, description, start, end, -by, (*about, of.cut))


def _numbered(rules: Iterable[Rule]) -> Iterator[tuple[int, Rule]]:
    """The rules, each with the number of those of its name before it."""
    before: dict[str, int] = {}
    for rule in rules:
        nth = before.get(rule.name, 0)
        before[rule.name] = nth + 1
        yield nth, rule


def _belonging(sums: Iterable[Sum], rule: Rule) -> list[Sum]:
    """The sums that a rule is for."""
    start = times.micros(rule.start) if rule.start else None
    end = times.micros(rule.end) if rule.end else None
    known: dict[tuple[str, str], bool] = {}
    of_project: dict[str, bool] = {}
    found = []
    for each in sums:
        if (start is not None and each.cut < start) or (end is not None and each.cut >= end):
            continue
        if each.project not in of_project:
            of_project[each.project] = matches(rule.scope.project_id, each.project)
        what = (each.price, each.service)
        if what not in known:
            known[what] = rule.scope.may_have(*what)
        if of_project[each.project] and known[what]:
            found.append(each)
    return found


def _by_project(sums: Iterable[Sum]) -> list[tuple[str, list[Sum]]]:
    of: dict[str, list[Sum]] = {}
    for each in sums:
        of.setdefault(each.project, []).append(each)
    return sorted(of.items())


def _validity(rule: Rule, start: int, end: int) -> tuple[int, int]:
    """When a rule is valid within the month."""
    first = max(start, times.micros(rule.start)) if rule.start else start
    last = min(end, times.micros(rule.end)) if rule.end else end
    return first, last


def _units(amount: Decimal | None, prices: Prices) -> int:
    """A fixed amount in multiples of the smallest amount."""
    numerator, denominator = (amount or Decimal(0)).as_integer_ratio()
    return exact.rounder(prices.rounding)(numerator * 10**prices.digits, denominator)
