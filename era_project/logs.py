"""How log records look: one line for people on a terminal, JSON lines otherwise."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import Any

from era_project import request_ids

LEVELS = {"debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR"}

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "request", "server_time"}


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}
    request_id = request_ids.current.get()
    return {**extra, "request_id": request_id} if request_id else extra


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message and the record's ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | _extra(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Lines(logging.Formatter):
    """One line for people: time, level, sentence, and ``extra`` as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of ``record``."""
        moment = datetime.datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        extra = "".join(f" {name}={value}" for name, value in _extra(record).items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}{extra}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def formatter() -> logging.Formatter:
    """The formatter that suits this process's stderr."""
    return Lines() if sys.stderr.isatty() else JsonLines()


def settings(level: str) -> dict[str, Any]:
    """Django's ``LOGGING`` for a level of ERA_LOG_LEVEL."""
    own = LEVELS[level]
    loud = own if own in ("WARNING", "ERROR") else "WARNING"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": "era_project.logs.formatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": loud, "handlers": ["stderr"]},
        "loggers": {name: {"level": own} for name in ("era_project", "sessions_app", "storage_app", "runners")},
    }
