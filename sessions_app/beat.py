"""The clock and what stands beside it: the reaper, and the sender of webhooks."""

from __future__ import annotations

import threading

from celery.beat import Scheduler, Service

from era_project.celery import app
from sessions_app.reaper import Reaper
from sessions_app.webhooks import Sender


class Beat:
    """Threads that reap, deliver webhooks and have things cleaned up; of several processes' one works.

    A process may be killed at any moment: what they do they do in the database, and the next one goes on with it.
    """

    def __init__(self) -> None:
        self._clock = Service(app, scheduler_cls=Scheduler)
        self._reaper, self._sender = Reaper(), Sender()

    def start(self) -> None:
        """Begin; the database must have every migration."""
        ticking = threading.Thread(target=self._clock.start, name="era-clock", daemon=True)
        for part in (self._reaper, self._sender, ticking):
            part.start()

    def stop(self) -> None:
        """End, once what is being done is done."""
        self._reaper.stop()
        self._sender.stop()
        self._clock.stop()
        self._reaper.join()
