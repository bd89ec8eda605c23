"""The table of languages."""

from __future__ import annotations

import subprocess

import pytest

from runners.languages import LANGUAGES, canonical
from runners.languages.python import imports
from tests.unit.drivers.driving import DEADLINE_S, Place


def test_every_alias_names_one_language() -> None:
    names = [name for language in LANGUAGES.values() for name in (language.name, *language.aliases)]
    assert len(names) == len(set(names))
    assert {canonical(name) for name in names} == set(LANGUAGES)
    assert list(LANGUAGES) == ["python", "node", "typescript", "go", "deno"]


@pytest.mark.parametrize("name", ["Python", "js ", "", "ruby", "node\0"])
def test_unknown_names_have_no_language(name: str) -> None:
    assert canonical(name) is None


@pytest.mark.parametrize("name", list(LANGUAGES))
def test_versions_are_read_and_new_enough(place: Place, name: str) -> None:
    language = LANGUAGES[name]
    argv = language.version.argv(runtimes=str(place.runtimes))
    environment = {"HOME": "/tmp", **language.version.env(runtimes=str(place.runtimes))}
    text = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=True).stdout
    version = language.read_version(text)
    assert version is not None
    assert tuple(int(part) for part in version.split(".")) >= language.minimum_version


def test_python_imports_are_seen() -> None:
    code = (
        "import os, json as j\nfrom asyncio.tasks import gather\ndef f():\n    import sqlite3; import a.b\nimport x # y"
    )
    assert {"os", "json", "asyncio", "sqlite3", "x"} <= imports(code)
    assert imports("print('no import')") == frozenset()
