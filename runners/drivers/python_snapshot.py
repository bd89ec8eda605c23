"""Takes and restores a session's variables with dill, one after the other through one pickler.

One pickler keeps what variables share: two names of one list are one list again. A variable that cannot be pickled is
lost alone: what the attempt left behind is rolled back. When one cannot be restored, those that share with it go too.
"""

from __future__ import annotations

import enum
import io
import itertools
import pickle
import sys
import types
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dill

CONTENT_BYTES = 40 << 20
"""Room for all variables. Source: a snapshot's frame is 64 MiB of base64."""

_LIVE = {
    "threading": ("Thread",),
    "subprocess": ("Popen",),
    "multiprocessing.process": ("BaseProcess",),
    "asyncio": ("Task", "Future", "AbstractEventLoop"),
    "concurrent.futures": ("Executor", "Future"),
    "socket": ("socket",),
    "_io": ("FileIO", "BufferedReader", "BufferedWriter", "BufferedRandom", "TextIOWrapper"),
}
"""Kinds that dill would pickle, or try to, though what they stand for ends with the process."""

_SHORT = 1000
_HEAP_TYPE = 1 << 9
"""Of ``type.__flags__``. Source: CPython, Py_TPFLAGS_HEAPTYPE."""


@dataclass(frozen=True)
class _Piece:
    name: str
    content: bytes
    memo_end: int
    uses: tuple[int, ...]
    """Numbers of the pieces before it whose objects it shares."""


class _Room(io.BytesIO):
    """Refuses what is too large before it is copied."""

    def __init__(self) -> None:
        super().__init__()
        self.left = CONTENT_BYTES

    def write(self, content: Any) -> int:
        """Raises OverflowError past the room for all variables."""
        if self.tell() + len(content) > self.left:
            raise OverflowError("the variables are too large")
        return super().write(content)


class _Pickling:
    """One pickler for all variables; knows which variable every shared object came with."""

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        self._starts: list[int] = []
        self._owners: list[int] = []
        self._file = _Room()
        self._live = tuple(_live_types())
        self._uses: set[int] = set()
        self._pickler = dill.Pickler(self._file, protocol=5, byref=False, recurse=False)
        self._get = self._pickler.get
        self._pickler.get = self._shared
        self._pickler.persistent_id = self._refuse_live

    def add(self, name: str, value: object) -> None:
        """Pickles one variable. Raises whatever pickling raises, and OverflowError past the room for all."""
        memo = self._pickler.memo
        start = len(memo)
        self._uses = set()
        try:
            self._pickler.dump(value)
        except BaseException:
            while len(memo) > start:
                memo.popitem()
            self._pickler._postproc.clear()
            self._begin()
            raise
        if len(memo) > start:
            self._starts.append(start)
            self._owners.append(len(self.pieces))
        self.pieces.append(_Piece(name, self._file.getvalue(), len(memo), tuple(sorted(self._uses))))
        self._file.left -= self._file.tell()
        self._forget_common(start)
        self._begin()

    def _forget_common(self, start: int) -> None:
        """Has later variables bring along what is no one's own: they must not be lost with the one that had it first."""
        memo = self._pickler.memo
        for key in list(itertools.islice(reversed(memo), len(memo) - start)):
            number, value = memo[key]
            if _is_common(value):
                del memo[key]
                memo[-1 - number] = (number, value)  # the unpickler counts it

    def _begin(self) -> None:
        """Empties the file and whatever a failed attempt left in the pickler's frame."""
        self._file.seek(0)
        self._file.truncate()
        framer = pickle._Framer(self._file.write)  # type: ignore[attr-defined]
        self._pickler.framer = framer
        self._pickler.write = framer.write
        self._pickler._write_large_bytes = framer.write_large_bytes

    def _shared(self, index: int) -> Any:
        place = bisect_right(self._starts, index) - 1
        if place >= 0 and index < self.pieces[self._owners[place]].memo_end:
            self._uses.add(self._owners[place])
        return self._get(index)

    def _refuse_live(self, value: object) -> None:
        if isinstance(value, self._live):
            raise pickle.PicklingError(f"a live {type(value).__name__} ends with its process")


def _is_common(value: object) -> bool:
    """Short texts, tuples of them, dill's own means, and whatever is found by its name in a module."""
    if isinstance(value, str | bytes):
        return len(value) <= _SHORT
    if isinstance(value, tuple):
        return len(value) <= _SHORT and all(item is None or isinstance(item, int) or _is_common(item) for item in value)
    if isinstance(value, type) and not value.__flags__ & _HEAP_TYPE:
        return True
    if not isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return isinstance(value, types.ModuleType) or type(value).__module__ == "dill._shims"
    found: object = sys.modules.get(value.__module__ or "builtins")
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value and value.__module__ != "__main__"


def _save_enum(pickler: Any, kind: enum.EnumType) -> None:
    """An enumeration of the program's own, by its members and methods; dill knows those of modules alone."""
    if kind.__module__ != "__main__":
        dill.Pickler.dispatch[type](pickler, kind)
        return
    own = {name: value for name, value in vars(kind).items() if _is_own_method(kind, value)}
    if "_new_member_" in own or "__new_member__" in own:
        raise pickle.PicklingError("its members cannot be made again from their values")
    members: dict[str, Any] = {name: vars(member)["_value_"] for name, member in vars(kind)["_member_map_"].items()}
    pickler.save_reduce(_make_enum, (kind.__name__, kind.__qualname__, kind.__bases__, own | members), obj=kind)


def _is_own_method(kind: enum.EnumType, value: Any) -> bool:
    function = getattr(value, "fget", None) or getattr(value, "__func__", value)
    return isinstance(function, types.FunctionType) and function.__qualname__.startswith(f"{kind.__qualname__}.")


def _make_enum(name: str, qualname: str, bases: tuple[type, ...], content: dict[str, Any]) -> enum.EnumType:
    """Called by the unpickler."""
    kind: Any = type(bases[-1])
    space = kind.__prepare__(name, bases)
    for key, value in {"__module__": "__main__", "__qualname__": qualname, **content}.items():
        space[key] = value
    made: enum.EnumType = kind(name, bases, space)
    return made


dill.Pickler.dispatch[enum.EnumType] = _save_enum


@contextmanager
def _careful() -> Iterator[None]:
    """Warnings of dill are no output of the program; names of the main module are of no use before they are restored."""
    save_global = pickle._Pickler.save_global  # type: ignore[attr-defined]

    def refuse_main(pickler: Any, value: Any, name: str | None = None) -> None:
        if getattr(value, "__module__", None) == "__main__":
            raise pickle.PicklingError("only its name could be kept")
        save_global(pickler, value, name=name)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pickle._Pickler.save_global = refuse_main  # type: ignore[attr-defined]
        try:
            yield
        finally:
            pickle._Pickler.save_global = save_global  # type: ignore[attr-defined]


def _live_types() -> Iterator[type]:
    for module, names in _LIVE.items():
        if module in sys.modules:
            for name in names:
                kind = getattr(sys.modules[module], name, None)
                if isinstance(kind, type):
                    yield kind


def _variables(namespace: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return [(name, value) for name, value in namespace.items() if not (name[:2] == "__" == name[-2:])]


def take(namespace: dict[str, Any]) -> tuple[bytes, list[str]]:
    """All variables of ``namespace`` as bytes, and the names of those that cannot be kept."""
    pickling = _Pickling()
    lost = []
    with _careful():
        for name, value in _variables(namespace):
            try:
                pickling.add(name, value)
            except BaseException:
                lost.append(name)
    plain = [(piece.name, piece.content, piece.memo_end, piece.uses) for piece in pickling.pieces]
    return pickle.dumps(plain, protocol=5), lost


class _Source:
    """A file for one unpickler that is given piece after piece."""

    def __init__(self) -> None:
        self._file = io.BytesIO()

    def put(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline()


class _Unpickler(dill.Unpickler):  # type: ignore[misc]
    """Can be given the objects that another one had made."""

    def __init__(self, source: _Source, made: list[Any]) -> None:
        super().__init__(source)
        self._source = source
        self._made = made
        entries = (
            pickle.BININT + number.to_bytes(4, "little") + pickle.BINPERSID + pickle.MEMOIZE + pickle.POP
            for number in range(len(made))
        )
        self.load_piece(b"\x80\x05" + b"".join(entries) + pickle.NONE + pickle.STOP)

    def persistent_load(self, number: int) -> Any:
        return self._made[number]

    def load_piece(self, content: bytes) -> Any:
        self._source.put(content)
        return self.load()

    def replaced(self, end: int) -> _Unpickler:
        """One without what a failed piece left, knowing ``end`` objects: later pieces count on their number."""
        memo = self.memo.copy()
        return _Unpickler(_Source(), [memo.get(number) for number in range(end)])


def restore(namespace: dict[str, Any], content: bytes) -> list[str]:
    """Puts the variables of a snapshot into ``namespace``; returns the names of those that could not be restored."""
    unpickler = _Unpickler(_Source(), [])
    lost: list[str] = []
    failed: set[int] = set()
    for number, plain in enumerate(pickle.loads(content)):
        piece = _Piece(*plain)
        try:
            value = unpickler.load_piece(piece.content)
        except BaseException:
            unpickler = unpickler.replaced(piece.memo_end)
            failed.add(number)
        if number in failed or not failed.isdisjoint(piece.uses):
            failed.add(number)
            lost.append(piece.name)
        else:
            namespace[piece.name] = value
    return lost
