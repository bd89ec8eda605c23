"""``manage.py worker``: take runs from the queues of languages and execute them here."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import OperationalError

from era_project import conf
from era_project.celery import LANGUAGES
from runners.types import SandboxUnavailable

logger = logging.getLogger(__name__)

MIGRATED_WITHIN_S = 60
LOOK_S = 0.5
NEVER = 78
"""Exit status of a worker that can never work: no use to start it again. Source: sysexits.h, EX_CONFIG."""


class Command(BaseCommand):
    """The worker of one node."""

    help = "Execute runs on this machine until INT or TERM."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The words after ``worker``."""
        parser.add_argument("--languages", default=",".join(LANGUAGES), help="what it serves, separated by commas")
        parser.add_argument("--slots", type=int, default=0, help="one-shot sandboxes; 0: ERA_SLOT_COUNT")
        parser.add_argument("--name", default="", help="of the node; empty: ERA_NODE_NAME")
        parser.add_argument("--embedded", action="store_true", help="INT or TERM ends what runs as lost, not drained")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until a signal."""
        languages = tuple(word.strip() for word in options["languages"].split(",") if word.strip())
        if unknown := set(languages) - set(LANGUAGES):
            raise CommandError(f"No such language: {', '.join(sorted(unknown))}. There are {', '.join(LANGUAGES)}.")
        wait_for_migrations()
        from sessions_app.worker import Options, Worker

        name = options["name"] or conf.get().node_name
        worker = Worker(Options(name, languages, options["slots"] or conf.get().one_shot_slots, options["embedded"]))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        try:
            status = worker.run()
        except SandboxUnavailable as error:
            raise CommandError(str(error), returncode=NEVER) from error
        except (OperationalError, psycopg.OperationalError) as error:
            logger.error("The database is away, the worker ends: %s", error, extra={"action": "start_failed"})
            os._exit(1)  # consumers that have begun would keep the process
        sys.exit(status)


def wait_for_migrations() -> None:
    """Return when the database has every migration.

    Raises:
        CommandError: it has not within a minute.
    """
    pause = threading.Event()
    for _ in range(int(MIGRATED_WITHIN_S / LOOK_S)):
        try:
            executor = MigrationExecutor(connection)
            if not executor.migration_plan(executor.loader.graph.leaf_nodes()):
                return
        except OperationalError:
            connection.close()
        pause.wait(LOOK_S)
    raise CommandError("The database lacks migrations; run `manage.py migrate` first, or start `serve`.")
