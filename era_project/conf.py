"""Every setting of the product: the only place that reads the process's environment.

The settings themselves stand in :mod:`era_project.knobs`; parsing, error messages and the configuration page of the
docs are made from that table.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from era_project.knobs import Conf

__all__ = ["PASSED_ON", "Conf", "ConfError", "Knob", "get", "inherited", "knobs", "load", "set_for_this_process"]

PASSED_ON = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "GOPROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""What programs that download on our behalf get of our own environment."""


class ConfError(ValueError):
    """A setting has a value that it cannot have; the text names the setting and what it takes."""


@dataclass(frozen=True)
class Knob:
    """One row of the table of settings, as the docs show it."""

    env: str
    older_names: tuple[str, ...]
    kind: str
    unit: str
    default: str
    help: str


def _shown_default(setting: dataclasses.Field[Any]) -> str:
    if setting.metadata["shown"]:
        return str(setting.metadata["shown"])
    value = setting.default
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def knobs() -> Iterator[Knob]:
    """Every setting in the order of the docs."""
    hints = typing.get_type_hints(Conf)
    for setting in dataclasses.fields(Conf):
        meta = setting.metadata
        kind = _KINDS[hints[setting.name]][0]
        yield Knob(meta["env"], meta["more"], kind, meta["unit"], _shown_default(setting), meta["help"])


def _flag(text: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    return words[text.lower()]


def _number(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _counts(text: str) -> Mapping[str, int]:
    pairs = (part.partition("=") for part in _names(text))
    return {name.strip(): _whole(count) for name, _, count in pairs}


_KINDS: Mapping[Any, tuple[str, Callable[[str], Any]]] = {
    int: ("whole number", _whole),
    float: ("number", _number),
    bool: ("true or false", _flag),
    str: ("text", str),
    Path: ("path", lambda text: Path(text).expanduser().absolute()),
    tuple[str, ...]: ("list", _names),
    Mapping[str, int]: ("list of name=number", _counts),
}

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "ERA_LOG_LEVEL": ("debug", "info", "warn", "warning", "error"),
    "ERA_SLOTS": ("auto", "strict"),
    "ERA_SLOT_MODE": ("auto", "root", "sub", "one"),
}


def _parse(name: str, text: str, hint: Any) -> Any:
    kind, parse = _KINDS[hint]
    try:
        value = parse(text)
    except (ValueError, KeyError) as error:
        raise ConfError(f"{name} must be a {kind}, not {text!r}.") from error
    return value


def load(environ: Mapping[str, str]) -> Conf:
    """The settings that ``environ`` describes; empty values count as not given.

    Raises:
        ConfError: a value is not of its setting's kind.
    """
    hints = typing.get_type_hints(Conf)
    given: dict[str, Any] = {}
    for setting in dataclasses.fields(Conf):
        meta = setting.metadata
        name = next((n for n in (meta["env"], *meta["more"]) if environ.get(n)), None)
        if name is None:
            continue
        value = _parse(name, environ[name], hints[setting.name])
        choices = _CHOICES.get(meta["env"])
        if choices and value.lower() not in choices:
            raise ConfError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
        given[setting.name] = value.lower() if choices else value
    if given.get("port", 0) > 65_535:
        raise ConfError(f"PORT must be at most 65535, not {given['port']}.")
    return Conf(**given)


@functools.cache
def get() -> Conf:
    """This process's settings, read once."""
    return load(os.environ)


def inherited(*names: str) -> dict[str, str]:
    """Those of the named variables that this process was started with (by default :data:`PASSED_ON`)."""
    return {name: os.environ[name] for name in names or PASSED_ON if os.environ.get(name)}


def set_for_this_process(values: Mapping[str, str]) -> None:
    """Settings that the supervisor or the tests choose, set before anything reads them."""
    os.environ.update(values)
    get.cache_clear()
