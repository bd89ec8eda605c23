"""Nothing lost, nothing twice, always answered: parts of a server are killed while sessions count what ran in them.

Every run adds a mark of its own to its session's data and variables and prints it. However a part ends, in the end no
run is unfinished, no mark is there twice, each run that is said to have succeeded has left its mark in the data, and no
other has left one.
"""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from tests import faults, stack
from tests.integration.streams.clients import reading
from tests.servers import Answer, Server, running
from tests.waiting import wait_until

# Beside the other tests that start whole servers: one after the other on one worker.
pytestmark = pytest.mark.xdist_group("serving")

SESSIONS = 3
RUNS_BEFORE, RUNS_AFTER = 2, 2
"""Runs of each session that end before the kill, and that begin after it."""
SETTLED_S = 120.0

ADD = """
import json, time
data = json.load(open('.session_data.json'))
data.setdefault('marks', []).append('{mark}')
json.dump(data, open('.session_data.json', 'w'))
seen = globals().get('seen', []) + ['{mark}']
print('{mark}', flush=True)
time.sleep({sleep})
"""

SEEN = "import json\nprint(json.dumps(globals().get('seen', [])))"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    state = stack.current.base / f"word-{stack.current.name}"
    with running({"ERA_RUNTIMES_DIR": str(stack.current.runtimes.parent)}, state=state) as started:
        yield started


@dataclass
class Caller(threading.Thread):
    """Runs one program after another in a session, as a client does that goes on after errors."""

    server: Server
    session: str
    killed: threading.Event
    answers: list[Answer] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        for _ in range(RUNS_BEFORE):
            self._ask(0.0)
        self.ready.set()
        while not self.killed.is_set():
            self._ask(0.3)
        for _ in range(RUNS_AFTER):
            self._ask(0.0)

    def _ask(self, sleep_s: float) -> None:
        code = ADD.format(mark=uuid.uuid4().hex, sleep=sleep_s)
        try:
            self.answers.append(self.server.post(f"/api/sessions/{self.session}/run", {"code": code}))
        except (OSError, http.client.HTTPException):
            threading.Event().wait(0.2)  # nobody listens: the web process is being started again


def settled(server: Server, session: str) -> bool:
    """Whether the server answers and no run of the session is unfinished."""
    try:
        pages = [server.get(f"/api/runs?session_id={session}&status={status}") for status in ("queued", "running")]
    except (OSError, http.client.HTTPException):
        return False
    return all(page.status == 200 and page.json["count"] == 0 for page in pages)


def test_a_file_of_pids_names_the_parts(server: Server) -> None:
    assert {"postgres", "valkey", "web", "worker"} <= json.loads(Path(server.state / "pids.json").read_text()).keys()


@pytest.mark.parametrize("fault", [*(f"killed {part}" for part in faults.EMBEDDED), "paused worker"])
def test_a_fault_loses_nothing_and_repeats_nothing(server: Server, fault: str) -> None:
    wait_until(lambda: server.get("/health").json["status"] == "healthy", 60, "the server is healthy")
    names = [f"{fault.replace(' ', '-')}-{uuid.uuid4().hex}" for _ in range(SESSIONS)]
    for name in names:
        assert server.post("/api/sessions", {"language": "python", "session_id": name}).status == 201
    killed = threading.Event()
    callers = [Caller(server, name, killed) for name in names]
    for caller in callers:
        caller.start()
    for caller in callers:
        assert caller.ready.wait(60)
    faults.FAULTS[fault](server)
    killed.set()
    for caller in callers:
        caller.join(SETTLED_S)
        assert not caller.is_alive()
    for name in names:
        wait_until(partial(settled, server, name), SETTLED_S, f"no run of {name} is unfinished")
        check(server, name)


HALF = """
import json, time
open('half.txt', 'w').write('half')
json.dump({'marks': ['half']}, open('.session_data.json', 'w'))
print('on', flush=True)
time.sleep(60)
"""


def test_a_run_whose_sandbox_broke_leaves_nothing_and_says_so(server: Server) -> None:
    wait_until(lambda: server.get("/health").json["status"] == "healthy", 60, "the server is healthy")
    name = f"broken-{uuid.uuid4().hex}"
    made = {"language": "python", "session_id": name, "persistent": True, "data": {"marks": []}}
    assert server.post("/api/sessions", made).status == 201
    with reading(server, "POST", f"/api/sessions/{name}/stream", {"code": HALF}) as reader:
        assert reader.next().type == "stdout"
        faults.FAULTS["killed world"](server)
        while reader.seen[-1].type == "stdout":
            reader.next()
        done = reader.seen[-1].data
    assert (done["type"], done["status"], done["exit_code"]) == ("done", "sandbox_error", None)
    assert done["message"]
    assert done["state"]["status"] == "lost"
    assert done["data"] == server.get(f"/api/sessions/{name}").json["data"] == {"marks": []}
    assert server.get(f"/api/sessions/{name}/files/half.txt").status == 404
    again = server.post(f"/api/sessions/{name}/run", {"code": "import os; os.path.exists('half.txt')"})
    assert (again.status, again.json["result"]) == (200, "False")


def check(server: Server, name: str) -> None:
    """The marks in a session against the records of its runs."""
    data = server.get(f"/api/sessions/{name}").json["data"]
    marks = Counter(data.get("marks", []))
    assert max(marks.values()) == 1
    listed = server.get(f"/api/runs?session_id={name}&limit=1000").json["runs"]
    records = [server.get(f"/api/runs/{run['run_id']}").json for run in listed]
    succeeded = {record["stdout"].strip() for record in records if record["status"] == "succeeded"}
    assert succeeded == marks.keys()
    strange = [one for one in records if one["status"] not in ("succeeded", "lost", "expired", "sandbox_error")]
    assert not strange, json.dumps(strange[:2], indent=1)
    assert all(record["message"] for record in records if record["status"] in ("lost", "expired"))
    asked: list[Answer] = []

    def answers() -> bool:  # the part that was killed may just be being started again
        asked[:] = [server.post(f"/api/sessions/{name}/run", {"code": SEEN})]
        return asked[0].status == 200

    wait_until(answers, SETTLED_S, f"{name} runs again")
    seen = json.loads(asked[0].json["stdout"])
    assert set(seen) <= succeeded
    assert len(seen) == len(set(seen))
