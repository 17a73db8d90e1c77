"""Texts with names in braces: `{host}/{device}`."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter


@dataclass(frozen=True)
class Template:
    """A text with names in braces, each of which stands for a value; `{{` is a brace.

    Attributes:
        parts: text and the name after it, in turn; the name of the last one may be None.
    """

    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, text: object) -> "Template":
        """Compile a text.

        Raises:
            ValueError: it is not text, or its braces do not enclose plain names.
        """
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not text")
        try:
            parts = tuple((literal, name, given or how) for literal, name, given, how in Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{text!r}: {error}") from None
        for _, name, more in parts:
            if more or (name is not None and not name.isidentifier()):
                raise ValueError(f"{text!r}: in braces must stand a name, such as {{host}}")
        return cls(tuple((literal, name) for literal, name, _ in parts))

    @property
    def names(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(name for _, name in self.parts if name is not None)

    def fill(self, values: Mapping[str, str]) -> str:
        """The text with the values in place of their names; a name without value leaves nothing."""
        return "".join(text + (values.get(name, "") if name is not None else "") for text, name in self.parts)
