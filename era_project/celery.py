"""The Celery application: queues, broker and how messages are handed over."""

from __future__ import annotations

from celery import Celery
from kombu import Queue
from kombu.transport.virtual import QoS

LANGUAGES = ("python", "node", "typescript", "go", "deno")
"""Canonical names; each has a queue of its own. Source: the contract, General."""

MAINTENANCE = "era.maintenance"
CLEAN_UP = "sessions_app.clean_up"
"""The task that beat sends every :data:`CLEAN_UP_S`."""
CLEAN_UP_S = 300.0


def language_queue(language: str) -> str:
    """The queue from which any worker that serves ``language`` takes runs."""
    return f"era.lang.{language}"


def node_queue(node: str) -> str:
    """The queue of one worker node: runs of the sessions whose sandboxes live there."""
    return f"era.node.{node}"


def make(name: str = "era") -> Celery:
    """An application; a process needs a second one only to consume other queues beside the first.

    Celery's fix-up for Django is left out: it would close the database connection around each run.
    """
    made = Celery(name, set_as_current=name == "era", fixups=[])
    made.config_from_object("django.conf:settings", namespace="CELERY")
    made.conf.task_queues = [Queue(MAINTENANCE), *(Queue(language_queue(language)) for language in LANGUAGES)]
    made.conf.imports = ("sessions_app.tasks",)
    made.conf.worker_enable_remote_control = False
    made.conf.beat_schedule = {
        "clean-up": {"task": CLEAN_UP, "schedule": CLEAN_UP_S, "options": {"expires": CLEAN_UP_S}}
    }
    return made


# What a consumer had taken when it lost its connection is in Postgres and is sent again from there. The library would put
# it back itself, and write it to a file below /tmp for good if the broker is away.
QoS.restore_at_shutdown = False

app = make()
