"""Finds in an entry what a sample is made of: value, ids, metadata."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from meterhouse.polling.expressions import ExpressionError
from meterhouse.polling.kinds.dynamic.definition import Definition

Found = tuple[str, Any]
"""The name of a meter, and its value as the answer has it."""


class Unusable(ValueError):
    """An entry, or a part of one, that gives no sample; the text says why."""


class Extraction:
    """What a definition finds in an entry. Entries are changed as Ceilometer changes them, for paths may lead there:
    they get `user_id`, `project_id`, `id`, `value` and `metadata`.

    Args:
        definition: of the pollster, or of extra metadata.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        ids = (("user_id", definition.user_id), ("project_id", definition.project_id), ("id", definition.resource_id))
        self._ids: Final = tuple((name, at) for name, at in ids if at is not None)
        plain = all(len(at.keys) == 1 and not at.operations and at.keys[0] == name for name, at in definition.metadata)
        self._plain_metadata: Final = tuple(name for name, _ in definition.metadata) if plain else None

    def prepare(self, entry: Any) -> str | None:
        """Give an entry its ids.

        Returns:
            Which of them it does not have, if any.

        Raises:
            Unusable: the entry is not a mapping.
        """
        if type(entry) is not dict and not isinstance(entry, dict):
            raise Unusable(f"it is a {type(entry).__name__}, not a mapping")
        missing = None
        for name, at in self._ids:
            try:
                entry[name] = at(entry)
            except ExpressionError as error:
                entry[name] = None
                missing = str(error)
        return missing

    def meters(self, entry: dict[str, Any]) -> Iterator[Found]:
        """The meters of an entry, with their values. Before each is returned, the entry has its value.

        Raises:
            Unusable: it has none.
        """
        if self._definition.sub_name is not None:
            yield from self._several(entry, self._definition.sub_name)
            return
        value = self.value(entry)
        if value is not SKIPPED:
            entry["value"] = value
            yield self._definition.name, value

    def value(self, entry: dict[str, Any]) -> Any:
        """The value of an entry of one meter, translated; `SKIPPED` if it gives no sample."""
        definition = self._definition
        try:
            value = definition.value(entry)
        except ExpressionError as error:
            raise Unusable(str(error)) from None
        if definition.skipped and value in definition.skipped:
            return SKIPPED
        if definition.values:
            try:
                return definition.values.get(value, definition.default)
            except TypeError:  # a list or a mapping
                return definition.default
        return value

    def metadata(self, entry: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """The metadata of an entry; and what was missing, if anything."""
        missing = None
        definition = self._definition
        made: dict[str, Any]
        try:
            if self._plain_metadata is not None:
                made = {name: entry[name] for name in self._plain_metadata}
            else:
                made = {name: at(entry) for name, at in definition.metadata}
        except (KeyError, ExpressionError):
            made = {}
            for name, at in definition.metadata:
                try:
                    made[name] = at(entry)
                except ExpressionError as error:
                    missing = str(error)
        if definition.mapping:
            _rename(made, definition.mapping, definition.keeps_mapped)
        return made, missing

    def _several(self, entry: dict[str, Any], sub_name: str) -> Iterator[Found]:
        definition = self._definition
        parts = entry.get(definition.sub_list or "")
        if not isinstance(parts, list):
            raise Unusable(f"'{definition.sub_list}' is not a list")
        for part in parts:
            try:
                name = part[sub_name]
            except (TypeError, KeyError):
                raise Unusable(f"a part of '{definition.sub_list}' has no '{sub_name}'") from None
            if not isinstance(name, str) or not name:
                raise Unusable(f"a '{sub_name}' is not a text")
            try:
                value = definition.value(part)
            except ExpressionError as error:
                raise Unusable(str(error)) from None
            entry["value"] = value
            if value not in definition.skipped and name not in definition.skipped:
                yield f"{definition.name}.{name}", value


SKIPPED: Final = object()
"""In place of a value that is listed in `skip_sample_values`."""


def _rename(metadata: dict[str, Any], names: Mapping[str, str], keeps: bool) -> None:
    for name in list(metadata):
        if name in names:
            metadata[names[name]] = metadata[name]
            if not keeps:
                metadata.pop(name)
