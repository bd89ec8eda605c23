"""What a request gives that must not lie open anywhere: sealed into the run's row until a worker claims it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from era_project import secrets

NONCE_BYTES = 12
"""Source: NIST SP 800-38D, the recommended length for GCM."""


class Inputs(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of a request that are secret or large; ``update_data`` is the text of a JSON object, ``tty`` columns and rows."""

    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    stdin: str = ""
    files: Mapping[str, bytes] = {}
    update_data: str | None = None
    interactive: bool = False
    tty: tuple[int, int] | None = None


NOTHING = Inputs()


def seal(inputs: Inputs, *, run_id: bytes) -> bytes | None:
    """``inputs`` for the row of ``run_id`` (16 bytes); None where there is nothing to hide."""
    if inputs == NOTHING:
        return None
    nonce = os.urandom(NONCE_BYTES)
    return nonce + _cipher().encrypt(nonce, msgspec.msgpack.encode(inputs), run_id)


def unseal(sealed: bytes | None, *, run_id: bytes) -> Inputs:
    """What :func:`seal` was given.

    Raises:
        cryptography.exceptions.InvalidTag: sealed by another key or for another run.
    """
    if sealed is None:
        return NOTHING
    opened = _cipher().decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], run_id)
    return msgspec.msgpack.decode(opened, type=Inputs)


@functools.cache
def _cipher() -> AESGCM:
    return AESGCM(secrets.get().sealing)
