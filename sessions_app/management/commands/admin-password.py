"""``manage.py admin-password``: a new password for the admin's user."""  # noqa: N999 - the file's name is the command's

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from era_project import conf
from sessions_app.services import admins


class Command(BaseCommand):
    """Renews the password and tells where it is."""

    help = "Give the admin's user a new generated password, written to `admin-password` in the state folder."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        path = admins.renew(conf.get().state_dir)
        self.stdout.write(f"The user {admins.NAME} has a new password; it is in {path}")
