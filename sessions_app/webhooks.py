"""Delivers finished runs to the addresses that their callers gave: signed, tried again, with a log of the attempts."""

from __future__ import annotations

import ipaddress
import logging
import random
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.db import Error, close_old_connections, connection, transaction
from django.utils import timezone

from era_project import conf
from era_project.errors import InvalidInput
from sessions_app import run_object, run_rows, webhook_posts
from sessions_app.models import Run, WebhookDelivery
from sessions_app.outage import Outage
from sessions_app.webhook_posts import Answered
from storage_app import blobs
from storage_app.objects import MissingObjectError

logger = logging.getLogger(__name__)

EACH_S = 0.5
THREADS = 8
PAUSES_S = (5, 30, 120, 600, 3600, 14_400)
"""From one attempt to the next; after the last one it is given up. In all about five hours."""
LEASE_S = 60
"""After so long an attempt that was not written down counts as failed: its process died."""
BATCH = 500
LONGEST_URL = 2048
"""Characters."""
LOCAL_NAMES = ("localhost", "localhost.localdomain")

ENQUEUE = """
WITH due AS (
    SELECT id, webhook FROM sessions_app_run WHERE webhook IS NOT NULL AND finished_at IS NOT NULL
    LIMIT %s FOR UPDATE SKIP LOCKED),
taken AS (UPDATE sessions_app_run r SET webhook = NULL FROM due WHERE r.id = due.id)
INSERT INTO sessions_app_webhookdelivery (run_id, url) SELECT id, webhook FROM due"""

TAKE = """
UPDATE sessions_app_webhookdelivery SET attempts = attempts + 1, next_at = now() + make_interval(secs => %s)
WHERE id IN (SELECT id FROM sessions_app_webhookdelivery WHERE next_at <= now()
    ORDER BY next_at LIMIT %s FOR UPDATE SKIP LOCKED)
RETURNING id, run_id, url, attempts"""


def check_url(url: str) -> str:
    """A URL that may be given as ``webhook``; where its name leads is checked again at each attempt.

    Raises:
        InvalidInput: it is no http(s) URL, or names a private address and those are not allowed.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url or not url.isprintable() or " " in url:
        raise InvalidInput("`webhook` must be an http or https URL.", field="webhook")
    if len(url) > LONGEST_URL:
        raise InvalidInput(
            f"`webhook` must be an http or https URL of at most {LONGEST_URL} characters.", field="webhook"
        )
    if not conf.get().webhook_allow_private and _is_private(urlsplit(url).hostname or ""):
        raise InvalidInput(
            "`webhook` must not lead to a private address; ERA_WEBHOOK_ALLOW_PRIVATE allows it.", field="webhook"
        )
    return url


def _is_private(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() in LOCAL_NAMES or host.lower().endswith(".localhost")
    return not webhook_posts.is_public(host)


class Sender:
    """Stands in beat: finds runs that ended, posts what is due. Several may work at once."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="era-webhooks", daemon=True)
        self._posts = ThreadPoolExecutor(THREADS, "era-webhook")
        self._going: dict[Future[Answered], tuple[int, int]] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; attempts that go on are tried again by the next process."""
        self._stopped.set()
        self._posts.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(EACH_S * 4)

    def _work(self) -> None:
        away = Outage(logger, "Webhooks cannot be sent")
        while not self._stopped.wait(EACH_S):
            try:
                close_old_connections()
                self._round()
                away.worked()
            except (Error, OSError) as error:
                away.failed(error)
            except Exception:
                logger.exception("Sending webhooks failed.", extra={"action": "webhooks_failed"})
        connection.close()

    def _round(self) -> None:
        for future in [future for future in self._going if future.done()]:
            number, attempts = self._going.pop(future)
            note(number, future.result(), attempts=attempts)
        enqueue()
        room = THREADS - len(self._going)
        for number, run_id, url, attempts in take(room) if room else ():
            try:
                body = _body(run_id)
            except Error:
                raise
            except Exception as error:  # the object store is away: the others were taken too
                logger.warning("A webhook's run cannot be read: %r", error, extra={"action": "webhooks_failed"})
                note(number, Answered(error=f"the run cannot be read: {error}"[:500]), attempts=attempts)
                continue
            if body is not None:
                post = self._posts.submit(webhook_posts.post, url, body, delivery=str(number))
                self._going[post] = (number, attempts)


def enqueue() -> None:
    """Make a delivery for each run with a webhook that has ended, whoever ended it."""
    with connection.cursor() as cursor:
        cursor.execute(ENQUEUE, [BATCH])


def take(room: int) -> list[tuple[int, UUID, str, int]]:
    """Up to ``room`` deliveries whose time has come: number, run, URL, which attempt it is."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE, [LEASE_S, room])
        taken: list[tuple[int, UUID, str, int]] = cursor.fetchall()
        return taken


def note(number: int, answered: Answered, *, attempts: int) -> None:
    """Write an attempt into the delivery's log and decide when the next one is."""
    now = timezone.now()
    entry: dict[str, Any] = {
        "at": run_object.moment(now),
        "status": answered.status,
        "error": answered.error or (None if answered.is_delivered else f"the answer was HTTP {answered.status}"),
    }
    with transaction.atomic():
        delivery = WebhookDelivery.objects.select_for_update().filter(pk=number).first()
        if delivery is None:  # its run was cleaned up meanwhile
            return
        delivery.log = [*delivery.log, entry]
        delivery.next_at = None
        if answered.is_delivered:
            delivery.delivered_at = now
        elif attempts <= len(PAUSES_S):
            delivery.next_at = now + timedelta(seconds=PAUSES_S[attempts - 1] * random.uniform(0.9, 1.1))
        delivery.save(update_fields=("log", "next_at", "delivered_at"))


def _body(run_id: UUID) -> bytes | None:
    """The run object as JSON; None where the run is gone. Output that the store has lost is left empty."""
    row = Run.objects.filter(pk=run_id).values(*run_rows.COLUMNS, *run_rows.OUTPUT).first()
    if row is None:
        return None
    for stream in ("stdout", "stderr"):
        if row[f"{stream}_blob"]:
            try:
                row[stream] = blobs.read(row[f"{stream}_blob"])
            except MissingObjectError:
                logger.warning("The output of a run is lost; its webhook goes without it.")
    return run_object.encode(run_object.render(row))
