"""``manage.py prepare``: after the migrations, what a first start needs in the database."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from era_project import conf
from sessions_app.models import Owner
from sessions_app.services import admins, owners


class Command(BaseCommand):
    """Makes the default owner and the admin's first user where they are missing."""

    help = "Make the default owner and the first user of the admin; does nothing where they exist."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the command."""
        Owner.objects.get_or_create(name=owners.DEFAULT)
        made = admins.ensure(conf.get().state_dir)
        if made is not None:
            self.stdout.write(f"The admin's user is {admins.NAME}; its password is in {made}")
