"""Drivers in Python: compiled once in the master, run in a child as its main program."""

from __future__ import annotations

import builtins
import gc
import os
import sys
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, NoReturn

from runners.backends.slot.guest import program

FOLDER = "/opt/rt/drivers"
_compiled: dict[str, CodeType] = {}


def compile_all() -> None:
    """In the master: no child has to read or compile what lies in the read-only folder."""
    for name in os.listdir(FOLDER):
        if name.endswith(".py"):
            path = f"{FOLDER}/{name}"
            with open(path, "rb") as file:
                _compiled[path] = compile(file.read(), path, "exec", 0, True)


class _Finder:
    """Finds a driver's own modules beside it, compiled; their names begin as the driver's does."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        origin = f"{FOLDER}/{name}.py"
        if origin not in _compiled or not name.startswith(self._prefix):
            return None
        spec = ModuleSpec(name, self, origin=origin)  # type: ignore[arg-type]
        spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(_compiled[str(module.__file__)], module.__dict__)


def run(path: str) -> NoReturn:
    """Hand the process over to the driver; its channel is descriptor 3."""
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, "__file__": path}
    sys.argv = [path]
    prefix = path.removeprefix(FOLDER + "/").partition("_")[0] + "_"
    sys.meta_path.insert(0, _Finder(prefix))
    program.make_way()
    gc.unfreeze()
    gc.enable()
    exec(_compiled[path], names)
    os._exit(0)
