"""Brings the database to this version: migrations, and the admin's user at the first start."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping

from era_project.serve.failures import CannotServe
from era_project.serve.layout import Plan
from era_project.serve.place import code_folder

WITHIN_S = 300


def digest() -> str:
    """Stands for all migrations: ours by their text, the libraries' by their pinned versions."""
    root = code_folder()
    files = [root / "requirements.txt", *sorted(root.glob("*/migrations/*.py"))]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def prepare(plan: Plan, env: Mapping[str, str]) -> None:
    """Migrates, unless the embedded database was brought to this very version before.

    Raises:
        CannotServe: a migration failed or the database cannot be reached.
    """
    state = plan.conf.state_dir
    version, wanted = state / "VERSION", digest()
    if not plan.conf.database_url and version.exists() and version.read_text().strip() == wanted:
        return
    done = subprocess.run(
        [str(plan.place.python), "-m", "era_project.serve.database"],
        # The supervisor's own user and path of the state: the admin's password is written there.
        env={**env, "ERA_STATE_DIR": str(state)},
        cwd=plan.place.code,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=WITHIN_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise CannotServe(f"The database could not be brought to this version:\n{said[-2000:]}")
    version.write_text(f"{wanted}\n")


def main() -> None:
    """The program's body."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "era_project.settings")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
    call_command("prepare", skip_checks=True)


if __name__ == "__main__":
    main()
