"""Settings of the processes that answer no HTTP: the models' apps alone, some 8 MB less than with API and admin."""

from era_project.settings import *  # noqa: F403

INSTALLED_APPS = ["sessions_app", "storage_app"]
