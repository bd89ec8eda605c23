#!/usr/bin/env python3
"""Django's command line for this project."""

import os
import sys

WITHOUT_WEB = ("worker", "beat")
"""Commands that stay, and need neither API nor admin."""


def main() -> None:
    """Runs the command that the arguments name."""
    is_lean = len(sys.argv) > 1 and sys.argv[1] in WITHOUT_WEB
    settings = "era_project.settings_without_web" if is_lean else "era_project.settings"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
