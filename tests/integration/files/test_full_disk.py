"""A full disk is told with a code of its own, the old file stays, and all is well once there is room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sessions_app.models import Session

DISK = 'mount -t tmpfs -o size=40m era-full "$1" && shift && exec "$@"'


def test_full_disk(session: Session, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    program = [sys.executable, "-m", "tests.integration.files.full_disk", session.name]
    done = subprocess.run(
        [*unshare, "sh", "-c", DISK, "sh", str(state), *program],
        env={**os.environ, "ERA_STATE_DIR": str(state), "DJANGO_SETTINGS_MODULE": "era_project.settings"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "small": 200,
        "large": "DISK_FULL",
        "status": 503,
        "kept": "old",
        "spooled": 0,
        "again": 200,
        "without any room": "DISK_FULL",
        "still kept": "new",
        "after room was made": 200,
        "direct": 5,
    }
