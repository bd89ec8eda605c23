"""Why the server cannot run: every failure that a person at the terminal is told in one sentence."""

from __future__ import annotations

NEVER_WORKS = 78
"""Exit code of a part that no restart can help, such as a worker without sandboxes. Source: EX_CONFIG of sysexits.h."""


class CannotServe(Exception):
    """The server ends; the text is one sentence with the remedy."""

    exit_code = 1


class RunsAlready(CannotServe):
    """This very server runs already: nothing is wrong."""

    exit_code = 0


class Stopped(BaseException):
    """INT or TERM arrived. A BaseException, so that no handler of errors takes it for one."""
