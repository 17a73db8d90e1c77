"""What goes to the workers of a Dask cluster and back, and which workers are refused. See slow/test_dask.py."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from meterhouse import extras
from meterhouse.definitions.archive_policies import load as load_policies
from meterhouse.definitions.column_expressions import Input, parse
from meterhouse.definitions.quality_rules import load as load_rules
from meterhouse.errors import MeterhouseError, Replaced, UnknownKeyword
from meterhouse.extras import NotInstalled
from meterhouse.rollups.step import roll_up
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.workers import on_worker, same
from meterhouse.workers.packing import packed, unpacked


def test_a_slice_of_a_table_is_sent_without_the_rest() -> None:
    whole = pa.table({"a": range(1_000_000), "b": ["text"] * 1_000_000})
    sent = packed({"rows": [whole.slice(10, 20)]})
    assert len(sent) < 5_000
    assert unpacked(sent)["rows"][0].equals(whole.slice(10, 20))


@pytest.mark.parametrize(
    "error",
    [
        Replaced("a file was replaced", where="samples/x.parquet", hint="Try again"),
        UnknownKeyword("asset", "rollup", ["rollups"]),
        NotInstalled("s3fs"),
    ],
)
def test_an_error_comes_back_as_it_was(error: MeterhouseError) -> None:
    back = unpacked(packed(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert (back.what, back.where, back.hint) == (error.what, error.where, error.hint)


def test_definitions_are_the_same_elsewhere() -> None:
    expression = parse("volume * (resource_metadata.vcpus or 2)", of_meters=False)
    back = unpacked(packed(expression))
    import numpy as np

    columns = {Input(): np.array([1.5, 2.0]), Input(path=("vcpus",)): np.array([4.0, np.nan])}
    assert back.compute(columns, 2).tolist() == expression.compute(columns, 2).tolist() == [6.0, 4.0]
    for given in (load_policies(None), load_rules(None)):
        assert unpacked(packed(given)) == given


def test_a_worker_of_other_versions_computes_nothing() -> None:
    wanted = {**same.versions(), "numpy": "1.0"}
    result, fault = unpacked(on_worker.run(("token", wanted, "lake", b"not unpacked"), b"neither"))
    assert result is None
    assert "has numpy" in str(fault)
    assert "and not 1.0" in str(fault)
    assert "Install the same versions" in str(fault)


def test_dask_is_named_if_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"distributed is not installed.*meterhouse\[dask\]"):
        roll_up(Site.open(read_settings(home=tmp_path, compute="dask://127.0.0.1:8786")))


def test_who_computes_here_imports_nothing_of_dask() -> None:
    used = "import meterhouse.rollups.step, meterhouse.workers, sys; print({'dask', 'distributed'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", used], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_scheduler_of_a_cluster_imports_no_store() -> None:
    used = "import meterhouse.workers.task, sys; print({'deltalake', 'duckdb', 'sqlalchemy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", used], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
