"""The truth in Postgres: owners, sessions, their entries, runs, nodes."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Left, Now

SHA256_OF_TEXT = r"sha256(decode(replace(%(expressions)s, '\', '\\'), 'escape'))"
"""Digest of a text's bytes in the database's encoding (UTF-8); ``convert_to`` would not do in a generated column."""

SEARCHED_CHARACTERS = 500
"""Of a path, at most four bytes each, in the index. Source: 2,704 bytes is the most that a B-tree's row holds."""


class RunStatus(models.TextChoices):
    """What has become of a run. Source: the contract's table of statuses."""

    QUEUED = "queued"  # a row and, if it is the head of its session, a message
    RUNNING = "running"  # claimed by a worker that holds a lease
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    COMPILE_ERROR = "compile_error"
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # not started within its queue timeout
    SANDBOX_ERROR = "sandbox_error"  # ours
    LOST = "lost"  # the node that ran it died


UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING)


class Owner(models.Model):
    """Whoever sessions, runs and storage belong to; one named ``default`` until tokens exist."""

    name = models.CharField(max_length=128, unique=True)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class Session(models.Model):
    """A named workspace with data and settings; its runs happen one after another."""

    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="sessions")
    name = models.CharField(max_length=128, unique=True, db_collation="C")
    language = models.CharField(max_length=16)
    persistent = models.BooleanField(db_default=True)
    metadata = models.JSONField(db_default={})
    data = models.TextField(db_default="{}", help_text="JSON text: order and digits are kept")
    code = models.TextField(null=True)
    code_description = models.TextField(null=True)
    code_updated_at = models.DateTimeField(null=True)
    default_timeout_s = models.FloatField(null=True)
    allow_internet = models.BooleanField(db_default=False)
    allow_public = models.BooleanField(db_default=False)
    cpu_count = models.FloatField(db_default=1.0)
    memory_mib = models.IntegerField(db_default=256)
    sandbox = models.CharField(max_length=16, db_default="standard", help_text="as asked for")
    next_seq = models.IntegerField(db_default=1)
    file_count = models.IntegerField(db_default=0)
    total_bytes = models.BigIntegerField(db_default=0)
    files_version = models.BigIntegerField(db_default=0, help_text="rises with each change of its entries")
    state = models.CharField(max_length=8, db_default="none", help_text="none, live, frozen or stored")
    node = models.CharField(max_length=128, null=True, help_text="where its live sandbox is")
    snapshot = models.CharField(max_length=64, null=True, help_text="sha-256 of the stored variables")
    snapshot_lost = models.JSONField(db_default=[], help_text="names that could not be stored")
    lost_reason = models.TextField(null=True, help_text="why the state is gone; told by the next run")
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    last_run_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["owner", "-created_at", "-id"], name="session_newest"),
            models.Index(fields=["node"], condition=Q(node__isnull=False), name="session_node"),
        ]

    def __str__(self) -> str:
        return self.name


class Entry(models.Model):
    """One path of a session's workspace: a file, a folder that is empty, or a relative link."""

    class Kind(models.TextChoices):
        FILE = "f"
        FOLDER = "d"
        LINK = "l"

    session = models.ForeignKey(Session, on_delete=models.CASCADE, related_name="entries")
    path = models.TextField(db_collation="C")
    kind = models.CharField(max_length=1, choices=Kind.choices, db_default="f")
    mode = models.IntegerField(db_default=0o644)
    mtime_ns = models.BigIntegerField(db_default=0)
    size = models.BigIntegerField(db_default=0)
    blob = models.CharField(max_length=64, null=True, db_collation="C", db_index=True)
    target = models.TextField(null=True, help_text="of a link")
    uploaded = models.BooleanField(db_default=False, help_text="no run has had it yet")
    # A path may have more bytes than a B-tree's row: its digest is unique, its beginning is what is searched.
    path_sha256 = models.GeneratedField(
        expression=Func(F("path"), template=SHA256_OF_TEXT), output_field=models.BinaryField(), db_persist=True
    )

    class Meta:
        verbose_name_plural = "entries"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["session", "path_sha256"], name="entry_path"),
            models.CheckConstraint(
                condition=Q(kind="f", blob__isnull=False, target__isnull=True)
                | Q(kind="d", blob__isnull=True, target__isnull=True)
                | Q(kind="l", blob__isnull=True, target__isnull=False),
                name="entry_kind",
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(F("session"), Left("path", SEARCHED_CHARACTERS), name="entry_prefix"),
        ]

    def __str__(self) -> str:
        return self.path


OPEN = Q(finished_at__isnull=True)
"""Runs that have not ended: few of all, so that an index of their own finds them whatever else is asked."""
IN_SESSION = Q(session__isnull=False)


class Run(models.Model):
    """One execution of a program: the row comes first, the message after, the final row before the answer."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    owner = models.ForeignKey(Owner, on_delete=models.PROTECT, related_name="runs", db_index=False)
    session = models.ForeignKey(
        Session, null=True, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="runs"
    )
    session_name = models.CharField(max_length=128, null=True, db_collation="C")
    seq = models.IntegerField(null=True, help_text="its place among the runs of its session")
    language = models.CharField(max_length=16)
    status = models.CharField(max_length=16, choices=RunStatus.choices, db_default="queued")
    code = models.TextField(null=True, help_text="null: the session's stored code")
    request = models.BinaryField(null=True, help_text="sealed env, stdin, args, files; gone once claimed")
    timeout_s = models.FloatField()
    cpu_count = models.FloatField(db_default=1.0)
    memory_mib = models.IntegerField(db_default=256)
    streamed = models.BooleanField(db_default=False, help_text="whether its output is sent live")
    interactive = models.BooleanField(db_default=False, help_text="whether its input comes while it runs")
    detached = models.BooleanField(db_default=False, help_text="whether it goes on without its caller")
    webhook = models.TextField(null=True)
    reply_to = models.TextField(null=True, help_text="the list that its caller reads")
    cancel_requested = models.BooleanField(db_default=False)
    queue_until = models.DateTimeField()
    published_at = models.DateTimeField(null=True, help_text="when a message for it was last sent")
    node = models.CharField(max_length=128, null=True)
    lease = models.BigIntegerField(null=True, help_text="number of the node's lease that claimed it")
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    signal = models.IntegerField(null=True)
    stdout = models.BinaryField(null=True, help_text="up to 64 KiB; else in stdout_blob")
    stderr = models.BinaryField(null=True)
    stdout_blob = models.CharField(max_length=64, null=True, db_collation="C")
    stderr_blob = models.CharField(max_length=64, null=True, db_collation="C")
    stdout_bytes = models.BigIntegerField(db_default=0)
    stderr_bytes = models.BigIntegerField(db_default=0)
    stdout_truncated = models.BooleanField(db_default=False)
    stderr_truncated = models.BooleanField(db_default=False)
    chunks = models.JSONField(null=True, help_text="order of the two streams: [[1 or 2, bytes], …]")
    execution_time_ms = models.FloatField(null=True)
    usage = models.JSONField(null=True)
    changes = models.JSONField(null=True)
    files_modified = models.IntegerField(null=True)
    data = models.TextField(null=True)
    data_error = models.TextField(null=True)
    result = models.TextField(null=True)
    state = models.JSONField(null=True)
    warnings = models.JSONField(db_default=[])
    sandbox = models.CharField(max_length=16, null=True, help_text="what really ran it")
    message = models.TextField(null=True, help_text="for people: why it waits, or why it is lost")

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(
                condition=Q(status__in=UNFINISHED, finished_at__isnull=True)
                | (~Q(status__in=UNFINISHED) & Q(finished_at__isnull=False)),
                name="run_finished",
            ),
            models.UniqueConstraint(fields=["session", "seq"], condition=IN_SESSION, name="run_order"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["owner", "-created_at", "-id"], name="run_newest"),
            models.Index(fields=["session", "seq"], condition=IN_SESSION & OPEN, name="run_waiting"),
            models.Index(fields=["created_at"], condition=OPEN, name="run_unfinished"),
            models.Index(fields=["finished_at"], condition=Q(finished_at__isnull=False), name="run_done"),
            models.Index(
                fields=["id"], condition=Q(finished_at__isnull=False, webhook__isnull=False), name="run_webhook"
            ),
        ]

    def __str__(self) -> str:
        return str(self.id)


class Node(models.Model):
    """A worker and its lease: until when, by the database's clock, it counts as alive."""

    name = models.CharField(max_length=128, unique=True)
    languages = models.JSONField(db_default={}, help_text="language: version")
    slots = models.IntegerField(db_default=0)
    enforced = models.JSONField(db_default={}, help_text="backend, mode and how each limit is held")
    lease = models.BigIntegerField(db_default=0, help_text="rises with each start of its worker")
    lease_until = models.DateTimeField(db_default=Now())
    draining = models.BooleanField(db_default=False)
    started_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class IdempotencyKey(models.Model):
    """A POST that is answered once: the second call gets the first one's run."""

    owner = models.ForeignKey(Owner, on_delete=models.CASCADE)
    route = models.CharField(max_length=255)
    key = models.CharField(max_length=255, db_collation="C")
    body_sha256 = models.CharField(max_length=64)
    run_id = models.UUIDField(null=True)
    status = models.IntegerField(null=True)
    answer = models.BinaryField(null=True)
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["owner", "route", "key"], name="idempotency_key"),
        ]

    def __str__(self) -> str:
        return self.key


class WebhookDelivery(models.Model):
    """One POST of a finished run to the address that its caller gave, with its attempts."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="deliveries")
    url = models.TextField()
    attempts = models.IntegerField(db_default=0)
    next_at = models.DateTimeField(null=True, db_default=Now(), help_text="null: delivered or given up")
    delivered_at = models.DateTimeField(null=True)
    log = models.JSONField(db_default=[], help_text="[{at, status, error}], one an attempt")
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        verbose_name_plural = "webhook deliveries"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["next_at"], condition=Q(next_at__isnull=False), name="webhook_due"),
        ]

    def __str__(self) -> str:
        return self.url
