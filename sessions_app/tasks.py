"""Celery's entries: each one call."""

from __future__ import annotations

import logging
from uuid import UUID

import psycopg
from celery import shared_task
from django.db import close_old_connections, connection

from era_project.celery import CLEAN_UP
from sessions_app import cleanup, execution, messages

logger = logging.getLogger(__name__)


@shared_task(name=messages.TASK)
def execute_run(run_id: str) -> None:
    """Execute one queued run. Safe to deliver twice: only the first claim wins.

    One that Postgres could not be told of is sent again, or ends with its lease.
    """
    try:
        execution.execute(UUID(run_id))
    except psycopg.OperationalError as error:
        logger.warning("A run was given up here: %s", error, extra={"action": "execute_failed", "run": run_id})


@shared_task(name=CLEAN_UP)
def clean_up() -> None:
    """Remove what has expired. The thread's connection may have broken since anybody used it."""
    close_old_connections()
    try:
        cleanup.run()
    finally:
        connection.close()
