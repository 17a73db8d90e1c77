"""The trusts of an alarm's actions: made for the alarm that is defined, ended when it has them no more."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

from meterhouse.alarms.definitions import actions
from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.alarms.delivery import trusts
from meterhouse.errors import DefinitionError
from meterhouse.site import Site

log = logging.getLogger(__name__)


def urls_of(definition: Mapping[str, Any]) -> list[str]:
    """All actions of a definition."""
    return [url for key in actions.LISTS for url in definition.get(key, ())]


class Trusts:
    """The trusts that are made for an alarm's `trust+` actions: one for equal URLs. After an error, they are deleted.

    Args:
        site: the site.
        token: the caller's; None if there is none.
    """

    def __init__(self, site: Site, token: str | None) -> None:
        self._site, self._token = site, token
        self._made: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and self._made:
            end_trusts(self._site, self._made.values(), self._token)

    def lacking(self, alarm: Alarm) -> list[str]:
        """The actions that need a trust, and name none."""
        return list(dict.fromkeys(url for url in urls_of(vars(alarm)) if trusts.needs_one(url)))

    def make_for(self, alarm: Alarm) -> None:
        """Make the trusts that an alarm lacks.

        Raises:
            DefinitionError: there is no token.
            MeterhouseError: Keystone makes none.
        """
        for url in self.lacking(alarm):
            if self._token is None:
                raise DefinitionError(
                    f"alarm '{alarm.name}' has an action that needs a trust, and there is no token to make one",
                    hint="Name a trust, or an application credential, in the URL: trust+https://TRUST_ID@HOST/…",
                )
            if url not in self._made:
                self._made[url] = trusts.create(self._site.settings, self._token, url)

    def given_to(self, alarm: Alarm) -> Alarm:
        """The alarm with the trusts that were made."""
        return with_actions(alarm, lambda urls: tuple(self._made.get(url, url) for url in urls))


def with_actions(made: Alarm, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Alarm:
    return replace(
        made,
        alarm_actions=change(made.alarm_actions),
        ok_actions=change(made.ok_actions),
        insufficient_data_actions=change(made.insufficient_data_actions),
    )


def end_trusts(site: Site, urls: Iterable[str], token: str | None) -> None:
    """Delete the trusts of actions that are no more. One that cannot be deleted is useless without the alarm."""
    for fault in trusts.delete(site.settings, urls, token):
        log.warning("a trust of an alarm that is gone is still in Keystone: %s", fault)
