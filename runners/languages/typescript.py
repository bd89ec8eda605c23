"""TypeScript: types stripped by node's own stripper, enums and namespaces included, then run by node."""

from __future__ import annotations

import re

from runners.languages.base import Language, Program
from runners.languages.node import SELF_WORDS

TYPESCRIPT = Language(
    name="typescript",
    aliases=("ts",),
    file_name="main.ts",
    version=Program(("{rt}/node/bin/node", "-p", "process.versions.amaro + ' amaro'")),
    version_pattern=re.compile(r"(\d+(?:\.\d+)+)"),
    once=Program(("{rt}/node/bin/node", "{drivers}/node_once.cjs", "typescript")),
    live=Program(("{rt}/node/bin/node", "{drivers}/js_live.cjs", "typescript", "{rt}/node/lib")),
    compiles=True,
    says_farewell=True,
    boot_variables=("NODE_",),
    self_words=SELF_WORDS,
)
