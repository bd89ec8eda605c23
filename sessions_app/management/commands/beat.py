"""``manage.py beat``: the reaper, the sender of webhooks, and the clock that has things cleaned up."""

from __future__ import annotations

import signal
import threading
from typing import Any

from celery.beat import Scheduler, Service
from django.core.management.base import BaseCommand

from era_project.celery import app
from sessions_app.management.commands.worker import wait_for_migrations
from sessions_app.reaper import Reaper
from sessions_app.webhooks import Sender


class Command(BaseCommand):
    """Beat and what stands beside it; several may run, one of them works."""

    help = "Reap, deliver webhooks and clean up until INT or TERM."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until a signal."""
        wait_for_migrations()
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        clock = Service(app, scheduler_cls=Scheduler)
        reaper, sender = Reaper(), Sender()
        ticking = threading.Thread(target=clock.start, name="era-clock", daemon=True)
        for part in (reaper, sender, ticking):
            part.start()
        stopped.wait()
        reaper.stop()
        sender.stop()
        clock.stop()
        reaper.join()
