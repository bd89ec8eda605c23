"""The Django app of sessions and runs."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Sessions, their files and their runs."""

    name = "sessions_app"
    verbose_name = "Sessions"
    default_auto_field = "django.db.models.BigAutoField"
