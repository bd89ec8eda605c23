"""``manage.py beat``: the reaper, the sender of webhooks, and the clock that has things cleaned up."""

from __future__ import annotations

import queue
import signal
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app.beat import Beat
from sessions_app.management.commands.worker import wait_for_migrations


class Command(BaseCommand):
    """Beat in a process of its own; ``serve`` has it in its web process."""

    help = "Reap, deliver webhooks and clean up until INT or TERM."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Work until a signal."""
        wait_for_migrations()
        asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: asked.put(None))
        beat = Beat()
        beat.start()
        asked.get()
        beat.stop()
