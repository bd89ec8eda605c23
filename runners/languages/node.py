"""Node.js: JavaScript, ES modules and CommonJS in one program."""

from __future__ import annotations

import re

from runners.languages.base import Language, Program

SELF_WORDS = ("__filename", ".filename", "import.meta.url", "argv[1]", "cluster", "./main", "main.js", "main.ts")

NODE = Language(
    name="node",
    aliases=("js", "javascript", "nodejs"),
    file_name="main.js",
    version=Program(("{rt}/node/bin/node", "--version")),
    version_pattern=re.compile(r"v(\d+(?:\.\d+)+)"),
    once=Program(("{rt}/node/bin/node", "{drivers}/node_once.cjs", "node")),
    live=Program(("{rt}/node/bin/node", "{drivers}/js_live.cjs", "node", "{rt}/node/lib")),
    says_farewell=True,
    minimum_version=(24,),
    boot_variables=("NODE_",),
    self_words=SELF_WORDS,
)
