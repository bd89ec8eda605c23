"""``python -m benchmarks [quick|full] [--user NAME] [--only NAME]``: the whole report against a server of its own."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

from benchmarks import hello, scenes
from benchmarks.floor import Floor
from benchmarks.hello import say
from benchmarks.server import Server, running, runtimes

GO_WAIT_S = 300.0
SLEEPER_SLOTS = 500
"""One for each of the sleepers that come at once."""


def main() -> None:
    """Measures and prints."""
    arguments = _arguments()
    plan = hello.PLANS[arguments.length]
    with running(user=arguments.user) as server, tempfile.TemporaryDirectory(prefix="era-floor-") as folder:
        _say_conditions(server, arguments.length)
        scenes.idle_memory(server)
        floor = Floor(runtimes(), Path(folder))
        for language in arguments.languages.split(","):
            _wait_for(server, language)
            hello.measure(server, floor, language=language, plan=plan)
        if not arguments.hello:
            _scenes(server, plan)
    if arguments.length == "full" and not arguments.hello:
        _many_slots(arguments.user)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("length", nargs="?", default="quick", choices=sorted(hello.PLANS))
    parser.add_argument("--user", help="account that runs the server (only root can name another)")
    parser.add_argument("--languages", default=",".join(hello.LANGUAGES), help="some of the languages, comma separated")
    parser.add_argument("--hello", action="store_true", help="hello only")
    return parser.parse_args()


def _say_conditions(server: Server, length: str) -> None:
    _, health = server.ask("GET", "/health")
    sandbox = health["sandbox"]
    say(f"{length} on {os.cpu_count()} cores, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    say(f"version {health['version']}, sandbox {sandbox['backend']} ({sandbox['mode']}); everything on, nothing tuned")
    say(
        "x = ratio to a bare interpreter of the same build, measured in turns; less is better for times, more for rates"
    )


def _wait_for(server: Server, language: str) -> None:
    """Waits until a language answers: go is prepared behind the first start."""
    end = time.monotonic() + GO_WAIT_S
    while time.monotonic() < end:
        status, answer = server.ask("POST", "/api/execute", {"language": language, "code": hello.CODE[language]})
        if status == 200 and answer["exit_code"] == 0:
            return
        time.sleep(1)
    say(f"{language}: does not answer: {status} {answer}")


def _scenes(server: Server, plan: hello.Plan) -> None:
    for language in ("python", "node"):
        scenes.session_runs(server, language, plan.count * plan.rounds)
    scenes.beside_spinners(server, 4, 3.0)
    scenes.time_limit(server, 3)
    scenes.much_output(server, 5)
    scenes.sleepers(server, 100)
    scenes.idle_memory(server)


def _many_slots(user: str | None) -> None:
    say(f"with ERA_SLOT_COUNT={SLEEPER_SLOTS}:")
    with running(user=user) as few, running(user=user, ERA_SLOT_COUNT=SLEEPER_SLOTS) as many:
        say("slots are built on demand, so the first round pays for that:")
        for count in (SLEEPER_SLOTS, 100, SLEEPER_SLOTS):
            scenes.sleepers(many, count)
        scenes.slot_cost(few, 4, many, SLEEPER_SLOTS)


if __name__ == "__main__":
    main()
