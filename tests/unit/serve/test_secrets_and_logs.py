from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from era_project import logs, request_ids, secrets


def test_keys_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    secrets.ensure(path)
    first = path.read_text()
    secrets.ensure(path)
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(set(json.loads(first).values())) == len(secrets.NAMES)


def test_a_key_that_came_later_is_added(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    secrets.ensure(path)
    kept = json.loads(path.read_text())
    lost = kept.pop("webhook")
    path.write_text(json.dumps(kept))
    secrets.ensure(path)
    found = json.loads(path.read_text())
    assert {name: found[name] for name in kept} == kept
    assert found["webhook"] != lost


def _record(**extra: object) -> logging.LogRecord:
    record = logging.makeLogRecord({"name": "era_project.x", "levelname": "INFO", "msg": "%s runs", "args": ("it",)})
    vars(record).update(extra)
    return record


def test_a_json_line_has_the_sentence_and_its_extra() -> None:
    token = request_ids.current.set("r-1")
    try:
        line = json.loads(logs.JsonLines().format(_record(run_id="x")))
    finally:
        request_ids.current.reset(token)
    assert line["message"] == "it runs"
    assert (line["level"], line["run_id"], line["request_id"]) == ("info", "x", "r-1")
    assert line["time"].endswith("Z")


def test_an_exception_stays_on_its_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        text = logs.JsonLines().format(_record(exc_info=sys.exc_info()))
    assert "\n" not in text
    assert "ValueError: no" in json.loads(text)["exception"]


def test_a_line_for_people_shows_the_extra() -> None:
    assert logs.Lines().format(_record(run_id="x")).endswith("info    it runs run_id=x")
