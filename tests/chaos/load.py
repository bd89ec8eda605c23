"""A load of runs that count themselves: what each caller asked for, and what it was told."""

from __future__ import annotations

import http.client
import json
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.servers import Answer, Server

CALLERS = 16
SESSIONS = 12
GIVE_UP_S = 120.0
PAUSE_S = 0.2
"""Between two tries of a caller whose connection broke."""
REFUSED_S = 1.0
"""How long a caller rests that was told that a part is down."""

PRINT = "import time\nprint('{mark}', flush=True)\ntime.sleep({sleep})"
COUNT = """
import json, time
data = json.load(open('.session_data.json'))
data.setdefault('marks', []).append('{mark}')
json.dump(data, open('.session_data.json', 'w'))
open('marks.txt', 'a').write('{mark}\\n')
print('{mark}', flush=True)
time.sleep({sleep})
"""


@dataclass(slots=True)
class Order:
    """One program that somebody wants to run once.

    Attributes:
        mark: what it prints; no other program prints it.
        session: its session's name; None: a one-shot.
        is_repeated: a caller whose connection broke asks again, under the same idempotency key.
        waits: False: the caller wants no answer but the run's id.
        answer: what the caller was told at last; None: its connection broke.
    """

    mark: str
    session: str | None
    is_repeated: bool
    waits: bool
    sleep_s: float
    answer: Answer | None = None

    @property
    def path(self) -> str:
        """Where it is asked for."""
        return f"/api/sessions/{self.session}/run" if self.session else "/api/execute"

    def body(self) -> dict[str, object]:
        """What is asked."""
        code = (COUNT if self.session else PRINT).format(mark=self.mark, sleep=self.sleep_s)
        wait: dict[str, object] = {} if self.waits else {"wait": False}
        return {"code": code, "queue_timeout": 600, **({} if self.session else {"language": "python"}), **wait}


def orders(count: int, sessions: Sequence[str], *, seed: int) -> list[Order]:
    """``count`` programs of all kinds, mixed; the same for the same seed but for their marks."""
    chosen = random.Random(seed)
    return [
        Order(
            mark=uuid.uuid4().hex,
            session=chosen.choice(sessions) if chosen.random() < 0.3 else None,
            is_repeated=chosen.random() < 0.6,
            waits=chosen.random() < 0.8,
            sleep_s=chosen.choice((0, 0, 0, 0, 0.05, 0.2)),
        )
        for _ in range(count)
    ]


@dataclass
class Load:
    """Callers who work through the orders."""

    server: Server
    orders: list[Order]
    callers: int = CALLERS
    _next: Iterator[Order] = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(init=False, default_factory=list)

    def start(self) -> None:
        """Let the callers begin."""
        self._next = iter(self.orders)
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(self.callers)]
        for thread in self._threads:
            thread.start()

    def taken(self) -> int:
        """How many orders have been answered, or given up."""
        return sum(order.answer is not None for order in self.orders)

    @property
    def is_going_on(self) -> bool:
        """Whether a caller still has something to ask."""
        return any(thread.is_alive() for thread in self._threads)

    def _call(self) -> None:
        while True:
            with self._lock:
                order = next(self._next, None)
            if order is None:
                return
            self._ask(order)

    def _ask(self, order: Order) -> None:
        headers = {"Idempotency-Key": order.mark} if order.is_repeated else {}
        pause = threading.Event()
        for _ in range(int(GIVE_UP_S / PAUSE_S)):
            try:
                order.answer = self.server.request("POST", order.path, order.body(), headers)
            except (OSError, http.client.HTTPException):
                pause.wait(PAUSE_S)
                if order.is_repeated:
                    continue
            if order.answer is not None and order.answer.status == 503:
                pause.wait(REFUSED_S)
            return


def told(order: Order) -> dict[str, object]:
    """The body of an order's answer."""
    assert order.answer is not None
    body = json.loads(order.answer.body)
    assert isinstance(body, dict)
    return body
