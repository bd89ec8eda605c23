"""``manage.py worker`` whose database is away: it says so in one line and ends, to be started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.servers import ROOT

WITHOUT_DATABASE = """
import sys, threading
import django.db, psycopg
from django.core.management import call_command

django.setup()
from sessions_app.management.commands import worker as command
from sessions_app.worker import Worker

def run(self):
    threading.Thread(target=threading.Event().wait).start()  # as a consumer, which waits for messages
    raise {error}("connection failed:\\\\nIs the server running?")

command.wait_for_migrations = lambda: None
Worker.run = run
call_command("worker")
"""


@pytest.mark.parametrize("error", ["psycopg.OperationalError", "django.db.OperationalError"])
def test_without_its_database_it_ends_in_one_line(error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DATABASE.format(error=error)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "era_project.settings_without_web"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    said = json.loads(line)
    assert (said["level"], said["action"], "exception" in said) == ("error", "start_failed", False)
    assert "Is the server running?" in said["message"]
