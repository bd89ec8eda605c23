"""``manage.py docs``: the pages of the docs that are made from code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from era_project import conf
from era_project.codes import CODES

MARK = "<!-- Made by `manage.py docs`: change the code, not this page. -->"


def errors_page() -> str:
    """Every error code."""
    rows = [f"| `{name}` | {code.status} | {code.meaning} |" for name, code in CODES.items()]
    return "\n".join(
        (
            "# Errors",
            "",
            MARK,
            "",
            "Every error, on every route, is a JSON object with `error` (a short title), `message` (one sentence that",
            "says what to do) and `code` (which never changes); where they help also `field`, `hint`, `retry_after`",
            "and others. The header `X-Request-Id` names the request in the server's log.",
            "",
            "| code | HTTP | when |",
            "| --- | --- | --- |",
            *rows,
            "",
        )
    )


def configuration_page() -> str:
    """Every setting."""
    return "\n".join(
        (
            "# Configuration",
            "",
            MARK,
            "",
            "All settings are environment variables; an empty value counts as not given.",
            "",
            "| variable | kind | default | what it is |",
            "| --- | --- | --- | --- |",
            *map(_setting, conf.knobs()),
            "",
        )
    )


def _setting(knob: conf.Knob) -> str:
    names = f"`{knob.env}`" + "".join(f" (also `{older}`)" for older in knob.older_names)
    kind = f"{knob.kind}, {knob.unit}" if knob.unit else knob.kind
    default = knob.default.replace("|", "\\|") or "empty"
    return f"| {names} | {kind} | {default} | {knob.help.replace('|', chr(92) + '|')} |"


PAGES: Mapping[str, Callable[[], str]] = {"errors.md": errors_page, "configuration.md": configuration_page}


class Command(BaseCommand):
    """Writes the pages, or with ``--check`` tells which are stale."""

    help = "Write docs/errors.md and docs/configuration.md; with --check only compare."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """``--check``."""
        parser.add_argument("--check", action="store_true", help="fail if a page is not what the code makes")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command.

        Raises:
            CommandError: with ``--check``, when a page is stale.
        """
        folder = Path(__file__).resolve().parents[3] / "docs"
        stale = [name for name, made in PAGES.items() if _read(folder / name) != made()]
        if options["check"]:
            if stale:
                raise CommandError(f"Stale in docs/: {', '.join(stale)}; run `make docs`.")
            return
        folder.mkdir(exist_ok=True)
        for name in stale:
            (folder / name).write_text(PAGES[name]())
            self.stdout.write(f"docs/{name} is new")


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
