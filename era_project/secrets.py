"""The server's own keys: made once, kept in one file that only its owner can read."""

from __future__ import annotations

import base64
import functools
import json
import logging
import os
import secrets as random
from dataclasses import dataclass
from pathlib import Path

from era_project import conf

logger = logging.getLogger(__name__)

NAMES = ("django", "sealing", "webhook")
KEY_BYTES = 32


@dataclass(frozen=True)
class Secrets:
    """Keys of 32 random bytes each."""

    django: bytes
    """Signs the admin's sessions."""
    sealing: bytes
    """Seals what a run's request must keep secret while it waits."""
    webhook: bytes
    """Signs webhooks."""

    @property
    def django_key(self) -> str:
        """The first one as text, as Django wants it."""
        return base64.b64encode(self.django).decode()


def _new() -> dict[str, str]:
    return {name: base64.b64encode(random.token_bytes(KEY_BYTES)).decode() for name in NAMES}


def _decoded(stored: dict[str, str]) -> Secrets:
    return Secrets(**{name: base64.b64decode(stored[name]) for name in NAMES})


def ensure(path: Path) -> None:
    """Makes the file of keys unless it is there; keys that it lacks are added."""
    stored: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    if all(name in stored for name in NAMES):
        return
    made = path.with_name(path.name + ".new")
    made.unlink(missing_ok=True)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(_new() | stored, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    made.rename(path)


@functools.cache
def get() -> Secrets:
    """This server's keys. Without a file (lint, docs) they are this process's own."""
    path = conf.get().secrets_file
    try:
        return _decoded(json.loads(path.read_text()))
    except FileNotFoundError:
        logger.debug("there is no file of keys: this process uses keys of its own")
        return _decoded(_new())
