"""Go: compiled first, against a prebuilt standard library; every run is a program of its own."""

from __future__ import annotations

import re

from runners.languages.base import Language, Program

GO = Language(
    name="go",
    aliases=("golang",),
    file_name="main.go",
    version=Program(("{rt}/go/bin/go", "version"), {"GOTOOLCHAIN": "local", "GOTELEMETRY": "off", "GOROOT": "{rt}/go"}),
    version_pattern=re.compile(r"go(\d+(?:\.\d+)+)"),
    once=Program(("{rt}/python/bin/python3", "-I", "-S", "{drivers}/go_once.py")),
    compiles=True,
    keeps_state=False,
    minimum_version=(1, 21),
)
