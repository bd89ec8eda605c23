"""The programs that the documents show for sessions: where they stand, and what they print on the shown data."""

from __future__ import annotations

from dataclasses import dataclass

from tests.documents.finding import lines_of
from tests.documents.table import DATA

SESSION_DATA = {"counter": 0, "users": ["alice", "bob"], "config": {"theme": "dark", "max_items": 100}}


@dataclass(frozen=True)
class Program:
    """Lines first to last of era-data-and-communication.txt, and what they print in a session with SESSION_DATA."""

    language: str
    first: int
    last: int
    prints: str

    def code(self) -> str:
        """The program; Python's lost indentation restored: in these programs every block is one line."""
        lines = lines_of(DATA)[self.first - 1 : self.last]
        if self.language != "python":
            return "\n".join(lines)
        before = ["", *lines]
        return "\n".join(
            "    " + line if above.endswith(":") else line for above, line in zip(before, lines, strict=False)
        )


PROGRAMS = (
    Program("python", 37, 44, "Counter: 0\nUsers: ['alice', 'bob']\n"),
    Program("node", 48, 52, "Counter: 0\nUsers: [ 'alice', 'bob' ]\n"),
    Program("typescript", 56, 70, "Counter: 0\nTheme: dark\n"),
    Program("python", 76, 87, "Counter incremented to: 1\n"),
    Program("node", 91, 98, "Counter incremented to: 1\n"),
    Program("python", 207, 213, "Running in session: {session}\nLanguage: python\nAPI: http://localhost:{port}\n"),
    Program("python", 452, 462, ""),
    Program("node", 463, 474, ""),
)
