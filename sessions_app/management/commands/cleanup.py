"""``manage.py cleanup``: remove what has expired, now; beat has it done every five minutes."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app import cleanup


class Command(BaseCommand):
    """What expires."""

    help = "Remove expired run records and their output, old keys, dead nodes and unused blobs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The words after ``cleanup``."""
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be removed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Clean and tell."""
        for name, count in dataclasses.asdict(cleanup.run(dry_run=options["dry_run"])).items():
            self.stdout.write(f"{name.replace('_', ' ')}: {count}")
