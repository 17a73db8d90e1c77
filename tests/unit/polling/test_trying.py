"""`meterhouse poll try`: what one poll would give."""

from pathlib import Path

import pytest

from tests.command_line import Run, lines
from tests.web import Raw, Request, web


def test_a_pollster_is_tried_with_all_its_pages_and_nothing_is_stored(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def page(request: Request) -> object:
        number = int(request.path.partition("=")[2] or 0)
        if number == 140:
            return Raw(500)
        return {"next": f"volumes?page={number + 1}", "volumes": [{"id": f"v{number}", "size": 1}, {"id": "none"}]}

    config = tmp_path / "config"
    (config / "pollsters.d").mkdir(parents=True)
    with web({"/volumes": page}) as cinder:
        (config / "polling.yaml").write_text(
            f"sources: [{{name: ours, interval: 60, meters: [own.size], resources: ['{cinder.url}']}}]"
        )
        (config / "pollsters.d" / "own.yaml").write_text(
            "- {name: own.size, sample_type: gauge, unit: GB, endpoint_type: volumev3, url_path: volumes,"
            " value_attribute: size, response_entries_key: volumes, next_sample_url_attribute: next}\n"
            "- {name: own.faulty, sample_type: gauge}\n"
        )
        monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(config))
        found = run("poll", "try", "own.size", "--json", "--limit", "2")
        assert found.exit_code == 1
        assert found.stderr.splitlines() == [
            "warning: 100 entries, first none: there is no 'size'",
            "warning: 40 entries, first none: there is no 'size'",
            f"not polled: {cinder.url}/volumes?…: it answers with status 500",
            found.stderr.splitlines()[-1],
        ]
        assert found.stderr.splitlines()[-1].startswith("140 samples of 280 resources in 2 tasks, ")
        assert found.stdout.count('"resource_id": "v') == 2
        cinder.routes["/volumes"] = [{"id": "v", "size": 5}]
        (sample,) = lines(run("poll", "try", "own.size", "--resource", cinder.url, "--source", "ours", "--json"))
        assert (sample["counter_volume"], sample["resource_id"]) == (5, "v")
    assert not (tmp_path / "lake").exists()
    for arguments, reason in (
        (["own.faulty"], "own.yaml:2: fault: pollster own.faulty: unit: is missing"),
        (["own.size", "--source", "their"], "unknown source 'their'"),
        (["own.siz"], "unknown pollster 'own.siz'. Did you mean own.size"),
    ):
        assert reason in str(run("poll", "try", *arguments).exception)
