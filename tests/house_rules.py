"""Rules of the house that ruff has no word for; ``python -m tests.house_rules`` prints what breaks them.

Files have at most 400 lines and functions at most 40; only the settings read the environment; only waiting sleeps.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE_LINES = 400
FUNCTION_LINES = 40
OURS = ("era_project", "sessions_app", "storage_app", "runners", "benchmarks", "tests")
READS_ENVIRONMENT = ("era_project/conf.py", "era_project/knobs.py", "manage.py")
MAY_SET_DEFAULT = "DJANGO_SETTINGS_MODULE"
VAGUE = ("utils", "helpers", "common", "misc", "manager", "managers")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def files() -> Iterator[Path]:
    """Python files that git knows or would take."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in sorted(set(names)):
        path = Path(name)
        if path.parts[0] in (*OURS, "manage.py") and "migrations" not in path.parts and (ROOT / path).exists():
            yield path


def broken(path: Path) -> Iterator[str]:
    """A sentence for each rule that a file breaks."""
    text = (ROOT / path).read_text()
    count = text.count("\n")
    if count > FILE_LINES:
        yield f"{path}: {count} lines, at most {FILE_LINES} are allowed"
    if path.stem in VAGUE:
        yield f"{path}: the name says nothing, name it after its one job"
    for node in ast.walk(ast.parse(text)):
        yield from _broken_by(node, path)


def _broken_by(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, Function):
        lines = (node.end_lineno or 0) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES} are allowed"
    if isinstance(node, ast.Call | ast.Subscript):
        if _reads_environment(node) and not _may_read_environment(path):
            yield f"{path}:{node.lineno}: only era_project/conf.py reads the environment"
        if _sleeps(node) and path.parts[0] == "tests" and str(path) != "tests/waiting.py":
            yield f"{path}:{node.lineno}: tests wait by tests.waiting.wait_until"


def _may_read_environment(path: Path) -> bool:
    """Programs that run inside a sandbox have an environment of their own."""
    is_guest = path.parts[:2] == ("runners", "drivers") or "guest" in path.parts
    return is_guest or path.parts[0] in ("tests", "benchmarks") or str(path) in READS_ENVIRONMENT


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        is_default = node.func.attr == "setdefault" and ast.unparse(node.func.value) == "os.environ"
        if is_default:
            return not (node.args and ast.literal_eval(node.args[0]) == MAY_SET_DEFAULT)
        return node.func.attr == "getenv" or ast.unparse(node.func) == "os.environ.get"
    return isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ"


def _sleeps(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "time.sleep"


def main() -> int:
    """The exit code: 1 when a rule is broken."""
    found = [sentence for path in files() for sentence in broken(path)]
    sys.stderr.writelines(f"{sentence}\n" for sentence in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
