from __future__ import annotations

import subprocess

import pytest

from tests.servers import ROOT


def _agent(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", **env}
    return subprocess.run(["./agent", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_words_it_says_how() -> None:
    done = _agent()
    assert done.returncode == 2
    assert "./agent serve" in done.stderr


@pytest.mark.parametrize("words", [("serve",), ()])
def test_both_ways_lead_to_the_server(words: tuple[str, ...]) -> None:
    # A setting that cannot be: the server itself says so, and starts nothing.
    done = _agent(*words, AGENT_MODE="http", ERA_MAX_CPU="many")
    assert done.returncode == 2
    assert done.stderr.startswith("era: ERA_MAX_CPU")
