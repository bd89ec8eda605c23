"""CPython: one-shots and live sessions run in a child forked from a warm master."""

from __future__ import annotations

import re

from runners.languages.base import Language, Program

_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([^\n#;]+))", re.MULTILINE)


def imports(code: str) -> frozenset[str]:
    """Top-level names that import statements of ``code`` mention, also those inside functions and strings."""
    found: set[str] = set()
    for origin, names in _IMPORT.findall(code):
        for name in [origin] if origin else names.split(","):
            found.add(name.strip().split(".")[0].split(" ")[0])
    return frozenset(found - {""})


PYTHON = Language(
    name="python",
    aliases=("py", "python3"),
    file_name="main.py",
    version=Program(("{rt}/python/bin/python3", "-I", "-S", "--version")),
    version_pattern=re.compile(r"Python (\d+(?:\.\d+)+)"),
    live=Program(("{rt}/python/bin/python3", "-s", "-E", "{drivers}/python_live.py")),
    minimum_version=(3, 12),
    self_words=("__file__", "main.py", "import main", "from main", "spawn", "forkserver"),
    imports=imports,
    preload=("json", "asyncio", "subprocess", "dataclasses", "datetime", "collections", "random", "urllib.request"),
)
