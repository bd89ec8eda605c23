"""Who may enter the admin at first: one generated user, whose password stands in the state folder."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from django.contrib.auth import get_user_model
from django.db import transaction

NAME = "admin"
FILE_NAME = "admin-password"
PASSWORD_BYTES = 18


def ensure(state_dir: Path) -> Path | None:
    """Make the first user where there is none; the file with the password, or None if somebody is there already."""
    if get_user_model().objects.filter(is_superuser=True).exists():
        return None
    return renew(state_dir)


def renew(state_dir: Path) -> Path:
    """Give the user ``admin`` a new password (and make it where it is missing); the file that has it."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    with transaction.atomic():  # no user without the file that has the password
        user, _ = get_user_model().objects.get_or_create(username=NAME)
        user.is_active = user.is_staff = user.is_superuser = True
        user.set_password(password)
        path = _written(state_dir / FILE_NAME, password)
        user.save()
    return path


def _written(path: Path, password: str) -> Path:
    """The file, readable by its owner alone from its first moment, whole or not there."""
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(password + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    return path
