"""What this product does with every request of the documents: one row a request, and the reason where it departs.

``matched`` rows are really sent and get the answer that the document shows; ``departed`` rows are sent too and get
another answer, for the reason given; ``later`` rows need what this version does not have and answer NOT_AVAILABLE
(or cannot be sent at all: they leave a sandbox for the internet).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["matched", "departed", "later"]
INTERNET = "user code that calls the internet: needs allowInternetAccess"
STORAGE = "storage (KV, D1, R2) and its resources are not in this version"
CHAT = "the chat door is not in this version"
V1, V2 = "era-api-reference-v1", "era-api-reference-v2"
DATA, HTTP, RA = "era-data-and-communication", "era-http-server-mode", "ra-http-server"


@dataclass(frozen=True)
class Row:
    """One request of a document.

    Attributes:
        document: file name without ``.txt``.
        line: where the request starts, from 1.
        verdict: see the module.
        answer: line on which the document's answer to it starts; None: it shows none, or not as JSON.
        status: HTTP status of our answer.
        reason: why it departs, or what it waits for.
        reply: name of the check in test_documents.py for answers that are no JSON, and for values.
    """

    document: str
    line: int
    verdict: Verdict = "matched"
    answer: int | None = None
    status: int = 200
    reason: str = ""
    reply: str = ""


def _reference(document: str, lines: tuple[int, ...], health: int) -> tuple[Row, ...]:
    """The rows that both references share; ``lines`` as they stand, but for the health check."""
    execute, create, list_, get, run, duplicate, files, data, output, put, hello, image, delete, wipe = lines
    return (
        Row(document, execute, answer=_ANSWER[document][0], reply="hello"),
        Row(document, create, answer=_ANSWER[document][1], status=201),
        Row(document, list_, answer=_ANSWER[document][2]),
        Row(document, get, answer=_ANSWER[document][3]),
        Row(document, run, answer=_ANSWER[document][4], reply="api_key"),
        Row(document, duplicate, answer=_ANSWER[document][5], status=201),
        Row(document, files, answer=_ANSWER[document][6]),
        Row(document, data, reply="data_json"),
        Row(document, output, reply="output_txt"),
        Row(document, put, answer=_ANSWER[document][7]),
        Row(document, hello, answer=_ANSWER[document][7]),
        Row(document, image, answer=_ANSWER[document][7]),
        Row(document, delete, answer=_ANSWER[document][8]),
        Row(document, wipe, answer=_ANSWER[document][9]),
        Row(document, health, answer=_ANSWER[document][10]),
    )


_ANSWER = {
    V1: (21, 53, 81, 105, 153, 189, 212, 247, 271, 301, 325),
    V2: (21, 53, 81, 105, 153, 265, 338, 373, 397, 427, 451),
}
"""Lines of the answers: execute, create, list, get, run, duplicate, files, upload, delete, delete all, health."""

TABLE: tuple[Row, ...] = (
    *_reference(V1, (32, 68, 99, 127, 164, 202, 227, 237, 239, 256, 260, 263, 280, 299), 334),
    *_reference(V2, (32, 68, 99, 127, 164, 278, 353, 363, 365, 382, 386, 389, 406, 425), 460),
    Row(V2, 214, reply="stream"),
    Row(V2, 223, reply="javascript_stream"),
    Row(V2, 312, answer=296),
    Row(V2, 318, answer=296),
    Row(V2, 324, "later", status=400, reason="allowInternetAccess: true needs the internet gate"),
    *(Row(V2, line, "later", status=400, reason=STORAGE) for line in (524, 551, 592, 622, 759, 761, 763, 788)),
    Row(DATA, 19, status=201),
    Row(
        DATA,
        101,
        "departed",
        answer=109,
        reason="the shown users and last_run belong to another program of the page: this one only adds 1 to counter",
        reply="counter",
    ),
    Row(DATA, 129, status=201),
    Row(DATA, 144, answer=152, reply="count_1"),
    Row(DATA, 165, answer=173, reply="count_2"),
    Row(DATA, 185, reply="environment"),
    Row(DATA, 216, "later", status=400, reason="setup (packages) and allowInternetAccess are not in this version"),
    *(Row(DATA, line, "later", reason=INTERNET) for line in (232, 237, 249, 252, 271, 338, 364)),
    Row(DATA, 294, status=201),
    Row(DATA, 308, answer=312, reply="metadata"),
    Row(DATA, 427, reply="machine_started"),
    Row(DATA, 431, reply="machine_completed"),
    Row(DATA, 522, reply="no_internet"),
    Row(
        HTTP,
        18,
        "departed",
        answer=22,
        reason='both references show {"status": "healthy", "timestamp", "version"}, this page {"status": "ok"}',
        reply="healthy",
    ),
    Row(HTTP, 29, reply="hello_agent"),
    Row(HTTP, 39, status=201, reply="two_cpus"),
    Row(HTTP, 50, reply="four"),
    *(Row(HTTP, line, reply="python_client") for line in (134, 141, 148)),
    *(Row(HTTP, line, reply="javascript_client") for line in (168, 176, 184)),
    Row(HTTP, 223, reply="go_client"),
    Row(HTTP, 291, reply="python_wrapper"),
    Row(HTTP, 317, reply="health_script"),
    Row(HTTP, 339, reply="python_wrapper"),
    Row(HTTP, 407),
    *(Row(RA, line, "later", status=400, reason=CHAT) for line in (82, 88)),
)
