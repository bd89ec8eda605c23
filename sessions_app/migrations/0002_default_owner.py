"""Makes the owner of everything while there are no tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import migrations


def make_owner(apps: Any, schema_editor: Any) -> None:
    apps.get_model("sessions_app", "Owner").objects.get_or_create(name="default")


class Migration(migrations.Migration):
    dependencies: ClassVar = [("sessions_app", "0001_initial")]
    operations: ClassVar = [migrations.RunPython(make_owner, migrations.RunPython.noop)]
