from __future__ import annotations

from pathlib import Path

import pytest

from era_project import conf


def test_defaults_are_the_contracts() -> None:
    settings = conf.load({})
    assert (settings.port, settings.default_timeout_s, settings.max_queued_runs) == (8787, 30.0, 100)


def test_older_names_count_and_the_new_one_wins() -> None:
    assert conf.load({"AGENT_STATE_DIR": "/x"}).state_dir == Path("/x")
    assert conf.load({"AGENT_STATE_DIR": "/x", "ERA_STATE_DIR": "/y"}).state_dir == Path("/y")


def test_an_empty_value_is_none() -> None:
    assert conf.load({"PORT": "", "ERA_HOST": ""}).port == 8787


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("ERA_DEFAULT_CPU", "inf"),
        ("ERA_S3_SECURE", "perhaps"),
        ("ERA_LOG_LEVEL", "loud"),
        ("ERA_PARKED", "node=many"),
    ],
)
def test_a_wrong_value_names_its_setting(name: str, value: str) -> None:
    with pytest.raises(conf.ConfError, match=name):
        conf.load({name: value})


def test_lists_and_flags() -> None:
    settings = conf.load({"ERA_ALLOWED_HOSTS": "era_agent, b.example", "ERA_S3_SECURE": "no", "ERA_PARKED": "node=2"})
    assert settings.allowed_hosts == ("era_agent", "b.example")
    assert settings.s3_secure is False
    assert dict(settings.parked) == {"node": 2}


def test_every_setting_is_in_the_table_once() -> None:
    names = [knob.env for knob in conf.knobs()]
    assert len(names) == len(set(names))
    assert all(knob.help.endswith(".") for knob in conf.knobs())
