"""Makes fork the default start of multiprocessing: CPython 3.14's own default imports a main file, and there is none.

Costs nothing until a program imports multiprocessing. A program that chooses a start method itself gets what it chose.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

TARGET = "multiprocessing.context"


def _set_default(module: ModuleType) -> None:
    module._default_context._default_context = module._concrete_contexts["fork"]


class _Loader:
    """The module's own loader, with one line after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _set_default(module)


class _Finder:
    """Waits for one import, then leaves."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != TARGET:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec: Any = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader)
                return spec
        return None


def prefer_fork() -> None:
    """Call once at boot; multiprocessing may be imported already."""
    module = sys.modules.get(TARGET)
    if module is not None:
        _set_default(module)
    else:
        sys.meta_path.insert(0, _Finder())
