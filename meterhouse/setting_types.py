"""Values of settings: from text to the declared type, with an error that says what the setting takes.

Types are declared with msgspec's constraints, such as `Annotated[int, Meta(ge=1)]`. pydantic-settings, which does the
same, takes a third of a second to import, which every command would pay.
"""

import types
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


@dataclass(frozen=True)
class Declared:
    """What a setting takes.

    Attributes:
        kind: `bool`, `int`, `float`, `str`, `Path`, or `Literal` for one of `choices`.
        optional: whether None stands for "not set".
        choices: the texts to choose from, if the kind is `Literal`.
        ge, gt, le: bounds of a number, if there are any.
        pattern: regular expression that a text must match, if there is one.
        min_length, max_length: number of characters of a text, if bounded.
        description: what the setting means.
    """

    kind: Any
    optional: bool
    choices: tuple[str, ...]
    ge: float | None
    gt: float | None
    le: float | None
    pattern: str | None
    min_length: int | None
    max_length: int | None
    description: str

    @property
    def takes(self) -> str:
        """What a value must be, to go after "it takes"."""
        if self.kind is bool:
            return "true or false"
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.kind in (int, float):
            bounds = [
                f"{words} {bound:,}"
                for words, bound in (("at least", self.ge), ("greater than", self.gt), ("at most", self.le))
                if bound is not None
            ]
            return " ".join(["a whole number" if self.kind is int else "a number", " and ".join(bounds)]).strip()
        if self.min_length is not None:
            return f"{self.min_length} to {self.max_length} characters"
        return "text"


def declared(annotation: Any) -> Declared:
    """What a field's annotation, `Annotated[…, Meta(…)]`, declares."""
    base, *metas = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    meta = next((each for each in metas if isinstance(each, Meta)), Meta())
    kinds = [base]
    if get_origin(base) in (Union, types.UnionType):
        kinds = [each for each in get_args(base) if each is not type(None)]
    kind = kinds[0]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Declared(
        kind=Literal if choices else kind,
        optional=kind is not base,
        choices=choices,
        ge=meta.ge,
        gt=meta.gt,
        le=meta.le,
        pattern=meta.pattern,
        min_length=meta.min_length,
        max_length=meta.max_length,
        description=meta.description or "",
    )


def converted(value: Any, annotation: Any) -> Any:
    """A value, of a variable or of a caller, in its declared type.

    Raises:
        ValueError: it cannot be used; the text says what the setting takes.
    """
    wanted = declared(annotation)
    if isinstance(value, str) and wanted.kind in (bool, int, float):
        value = value.strip()
    if isinstance(value, str) and wanted.kind in (int, float):
        with suppress(ValueError):
            value = wanted.kind(value)  # 1_000, +5 and .5 too
    if wanted.kind is bool and isinstance(value, str):
        value = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}.get(value.lower(), value)
    try:
        return msgspec.convert(value, annotation, strict=False, dec_hook=_path)
    except (msgspec.ValidationError, ValueError):
        if wanted.pattern is not None:
            description = wanted.description.rstrip(".")
            raise ValueError(f"it is not of the form that it takes. {description}") from None
        raise ValueError(f"it takes {wanted.takes}") from None


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise ValueError("not a path")
