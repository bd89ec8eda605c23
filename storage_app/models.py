"""What the object store holds, as rows: one for each object."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Blob(models.Model):
    """Bytes in the object store, named by their sha-256; touched before the object is looked for."""

    sha256 = models.CharField(max_length=64, primary_key=True, db_collation="C")
    size = models.BigIntegerField()
    touched_at = models.DateTimeField(db_default=Now(), db_index=True)

    def __str__(self) -> str:
        return self.sha256
