"""The FinOps Foundation's validator of FOCUS files, in a virtual environment of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))

VERSION = "1.0.0"
"""Its newest release that brings its rules along; they are those of FOCUS 1.0."""

PINNED = ("multimethod==1.12", "numpy==1.26.4", "pandas==2.3.3", "pandasql==0.7.3", "sqlglot==18.17.0")
"""What it stands on. Its pandera does not work with multimethod 2."""

SCRIPT = """
import os, sys
from pathlib import Path
import focus_validator
from focus_validator.validator import Validator
os.chdir(Path(focus_validator.__path__[0]).parent)  # it looks for its list of currencies from there
for file in sys.argv[1:]:
    given = dict(output_type="unittest", output_destination=f"{file}.xml", rules_version="1.0")
    Validator(data_filename=file, **given).validate()
"""


def failed(files: Sequence[Path]) -> list[list[str]]:
    """By file, the names of the rules that it breaks. The names of files end with `.csv` or `.parquet`.

    Raises:
        CalledProcessError: the validator cannot be installed, or it ended with an error.
    """
    from _peers import interpreter

    python = interpreter("focus-validator", VERSION, also=PINNED)
    paths = [file.resolve() for file in files]
    subprocess.run([python, "-W", "ignore", "-c", SCRIPT, *paths], check=True, capture_output=True, text=True)
    return [_failures(ElementTree.parse(f"{path}.xml")) for path in paths]


def _failures(found: "ElementTree.ElementTree[ElementTree.Element]") -> list[str]:
    return sorted(case.get("name", "").split(" ")[0] for case in found.iter("testcase") if len(case))
