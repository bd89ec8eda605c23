"""Deno: TypeScript and JavaScript with every permission inside the sandbox."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from runners.languages.base import Language, Program

_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "DENO_DIR": "/tmp/.deno",
        # What is transpiled here is never asked for again.
        "DENO_EMIT_CACHE_MODE": "disable",
        # Deno colours its errors also where nobody looks at a terminal.
        "NO_COLOR": "1",
        "DENO_NO_UPDATE_CHECK": "1",
    }
)
_RUN = ("{rt}/deno/deno", "run", "-A", "--quiet", "--no-prompt", "--no-lock", "--no-config", "--no-code-cache")

DENO = Language(
    name="deno",
    aliases=(),
    file_name="main.ts",
    version=Program(("{rt}/deno/deno", "--version")),
    version_pattern=re.compile(r"deno (\d+(?:\.\d+)+)"),
    once=Program((*_RUN, "{drivers}/deno_once.js"), _ENVIRONMENT),
    live=Program((*_RUN, "{drivers}/js_live.cjs", "deno", "{rt}/node/lib"), _ENVIRONMENT),
    says_farewell=True,
    minimum_version=(2,),
    boot_variables=("DENO_", "NO_COLOR"),
    self_words=("import.meta.url", "import.meta.filename", "mainModule", "./main", "main.ts"),
)
