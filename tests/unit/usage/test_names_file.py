"""names.csv: each row that cannot be used is one line with its number, and the others count."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import OpenSite

from meterhouse import times
from meterhouse.doctor import findings_of
from meterhouse.errors import DefinitionError
from meterhouse.usage.names_file import FileName, load, read


def test_rows_have_a_kind_an_id_a_name_and_if_wanted_a_domain_and_a_time(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_bytes(
        "\ufeffname;id;kind;valid_from;domain\r\n"
        '"Müller; Söhne";p1;Project;2026-11-01;Default\r\n'
        "\r\n"
        "ann;u1;user;2026-11-01T10:00:00+02:00;\r\n"
        "m1.small;1;flavor;;\r\n".encode()
    )
    given = load(tmp_path)
    assert given.faults == ()
    assert given.names == (
        FileName("project", "p1", datetime(2026, 11, 1, tzinfo=UTC), "Müller; Söhne", "Default"),
        FileName("user", "u1", datetime(2026, 11, 1, 8, tzinfo=UTC), "ann", None),
        FileName("flavor", "1", times.EPOCH, "m1.small", None),
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("tenant,p1,Shop,", "unknown kind 'tenant'. Known: project, user, domain, flavor, image, volume_type"),
        ("project,,Shop,", "id is empty"),
        ("project,p1,,", "name is empty"),
        ("project,p1,Shop", "the row has 3 values, and there are 4 columns"),
        ("project,p1,Shop,,", "the row has 5 values, and there are 4 columns"),
        ("project,p1,Shop,yesterday", "valid_from is 'yesterday'. Write ISO 8601, such as 2026-11-01"),
        ("project,p1,Shop,0001-01-01", "valid_from is '0001-01-01', which is out of reach"),
        ("project,good,Other,", "project 'good' has another name from the same time on"),
        (f"project,p1,{'x' * 1001},", "name is longer than 1,000 characters, or has a NUL"),
        ("project,p1,a\0b,", "name is longer than 1,000 characters, or has a NUL"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_by_its_line(tmp_path: Path, row: str, reason: str) -> None:
    file = tmp_path / "names.csv"
    file.write_text(f'kind,id,name,valid_from\nproject,good,"Two\nlines",\n{row}\nuser,u1,ann,\n')
    given = read(file)
    assert [str(fault) for fault in given.faults] == [f"{file}:4: {reason}"]
    assert [one.id for one in given.names] == ["good", "u1"]


def test_bytes_that_are_not_utf8_reject_their_row_alone(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_bytes(b"kind,id,name\nproject,p1,M\xfcller\nproject,p2,Good\n")
    given = read(file)
    assert [str(fault) for fault in given.faults] == [f"{file}:2: name is not UTF-8 text"]
    assert [one.id for one in given.names] == ["p2"]


@pytest.mark.parametrize("text", ["", "kind,id\nproject,p1\n", "kind,id,name,colour\n", "kind,id,id,name\n"])
def test_a_first_line_without_the_columns_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "names.csv"
    file.write_text(text)
    with pytest.raises(DefinitionError, match="the first line has the columns"):
        read(file)


def test_no_more_than_a_hundred_faults_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text("kind,id,name\n" + "x,y,z\n" * 150)
    given = read(file)
    assert len(given.faults) == 101
    assert str(given.faults[-1]) == f"{file}: 50 further rows cannot be used"


def test_the_doctor_reports_each_row_that_cannot_be_used(open_site: OpenSite, tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    site = open_site(config_dir=tmp_path)
    file.write_text("kind,id,name\nproject,p1,Shop\nx,y,z\n")
    (found,) = findings_of(site, "names")
    assert (found.state, str(found).startswith(f"{file}:3: unknown kind 'x'")) == ("warning", True)
    file.write_text("id\n")
    (found,) = findings_of(site, "names")
    assert (found.state, str(found).startswith(f"{file}:1: ")) == ("failed", True)
    file.write_text("kind,id,name\nproject,p1,Shop\n")
    (found,) = findings_of(site, "names")
    assert (found.state, found.found) == ("ok", f"1 names of {file}")


def test_without_a_folder_or_a_file_there_are_no_names(tmp_path: Path) -> None:
    assert load(None).names == load(tmp_path).names == ()
