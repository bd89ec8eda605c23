"""The Django app of stored bytes."""

from django.apps import AppConfig


class StorageConfig(AppConfig):
    """The object store and what stands on it."""

    name = "storage_app"
    verbose_name = "Storage"
