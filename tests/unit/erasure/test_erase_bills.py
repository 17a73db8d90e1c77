"""An erasure replaces a user in closed months; their figures stay, and they are made again from their files."""

from pathlib import Path

import pytest
from bills import PRICES, day, lives
from conftest import OpenSite
from erasures import ANA, NAME
from leftovers import left

from meterhouse.billing import closing, frozen
from meterhouse.erasure import files
from meterhouse.personal_data import Person
from meterhouse.site import Site

PSEUDONYM = "erased-0123456789abcdef0123456789abcdef"


@pytest.fixture
def closed(open_site: OpenSite, tmp_path: Path) -> Site:
    """A site with a closed month that has an instance of a user, named after her."""
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    site = open_site(config_dir=tmp_path)
    lives(site, "i1", day(1), user_id=ANA, name=f"web of {NAME}")
    lives(site, "i2", day(1), day(2))
    closing.close(site, "2026-10", NAME)
    return site


def test_a_user_is_erased_from_closed_months(closed: Site) -> None:
    before = closing.make(closed, "2026-10")
    ana = Person(ANA, PSEUDONYM, (NAME,))
    assert files.replace(closed, ana, dry_run=True).counts["bills"] == 3  # periods, lines, and who closed it
    assert ANA.encode() in (Path(closed.lake.url) / "bills/2026-10/periods.parquet").read_bytes()
    found = files.replace(closed, ana, dry_run=False)
    assert (found.counts["bills"], found.left) == (3, [])
    assert [text for text in left(closed, [ANA, NAME]) if "/bills/" in text] == []
    after = closing.make(closed, "2026-10")
    assert after.totals("project_id") == before.totals("project_id")
    assert after.lines["amount"].equals(before.lines["amount"])
    assert after.closing is not None
    assert before.closing is not None
    assert after.closing.closed_at == before.closing.closed_at
    assert after.closing.digest != before.closing.digest
    assert closing.again_in_lake(closed, "2026-10").differences == ()
    assert files.replace(closed, ana, dry_run=False).counts["bills"] == 0
    assert not any(row["corrects"] for row in closing.make(closed, "2026-11").lines.to_pylist())


def test_a_replacement_that_was_killed_at_its_end_is_tidied_up_by_the_next(
    closed: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"vcpu", b"VCPU") if name.endswith(".yaml") else content

    left_over = Path(closed.lake.url) / "bills" / "2026-10" / frozen.NEXT
    with monkeypatch.context() as killed:
        killed.setattr(closed.lake, "remove", lambda uris: None)
        assert frozen.replaced(closed.lake, "2026-10", change, dry_run=False)
    assert left_over.exists()
    assert frozen.replaced(closed.lake, "2026-10", change, dry_run=True) == 0
    assert left_over.exists()
    assert frozen.replaced(closed.lake, "2026-10", change, dry_run=False) == 0
    assert not left_over.exists()


@pytest.mark.parametrize("writes", range(5))
def test_an_interrupted_replacement_can_be_read_and_continued(
    closed: Site, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    before = closing.make(closed, "2026-10")
    put = closed.lake.put
    done: list[str] = []

    def some(path: str, content: bytes) -> str:
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        return put(path, content)

    def change(name: str, content: bytes) -> bytes:
        mark = b"# changed\n"
        return content if not name.endswith(".yaml") or content.endswith(mark) else content + mark

    monkeypatch.setattr(closed.lake, "put", some)
    with pytest.raises(KeyboardInterrupt):
        frozen.replaced(closed.lake, "2026-10", change, dry_run=False)
    monkeypatch.undo()
    assert closing.make(closed, "2026-10") == before
    assert closing.again_in_lake(closed, "2026-10").differences == ()
    frozen.replaced(closed.lake, "2026-10", change, dry_run=False)
    folder = Path(closed.lake.url) / "bills" / "2026-10"
    assert not (folder / frozen.NEXT).exists()
    assert (folder / "units.yaml").read_bytes().endswith(b"# changed\n")
    assert closing.again_in_lake(closed, "2026-10").differences == ()
    assert closing.make(closed, "2026-10").lines.equals(before.lines)
