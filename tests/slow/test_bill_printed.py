"""A bill as HTML, printed by a browser: each project has pages of its own."""

import re
import subprocess
from pathlib import Path

import pytest
from bills import bill_of, line, tax

from meterhouse.billing.formats import html

pytestmark = [pytest.mark.slow, pytest.mark.service]


def _pages(browser: str, content: str, folder: Path) -> int:
    """How many pages a browser prints a document on."""
    page, printed = folder / "bill.html", folder / "bill.pdf"
    page.write_text(content, encoding="utf-8")
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"),
            *("--no-pdf-header-footer", f"--print-to-pdf={printed}", page.as_uri()),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", printed.read_bytes()))


def test_each_project_is_printed_on_pages_of_its_own(browser_path: str, tmp_path: Path) -> None:
    lines = [line(project_id=f"p{n}", resource_id=f"i{n}") for n in range(3)] + [tax("5.47", "28.80")]
    assert _pages(browser_path, html.as_html(bill_of(lines), "Example Cloud"), tmp_path) == 1 + 3
    assert _pages(browser_path, html.as_html(bill_of(lines[:1]), "Example Cloud"), tmp_path) == 1
    many = [line(resource_id=f"i{n}") for n in range(100)]
    assert _pages(browser_path, html.as_html(bill_of(many), "Example Cloud"), tmp_path) > 2
