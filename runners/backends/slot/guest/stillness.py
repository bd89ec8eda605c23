"""Pages that a fork shares stay shared: no garbage is looked for, and no reference to what is there is counted.

CPython writes to an object whenever it counts a reference, and the kernel then copies the page for the child. Objects
that are there before the fork are therefore made immortal, as CPython itself makes ``None``.
Source: PEP 683; measured, a run copies 315 pages instead of 388, which is 6 % of a slot's CPU time.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types

_KNOWN = ("cpython", (3, 14), 8, "little")
"""The interpreter whose objects look so: their first four bytes are the count, which at 3 << 30 is never changed."""
_IMMORTAL = 3 << 30


def keep() -> None:
    """Leave every object that is there now alone for good, and collect no garbage."""
    gc.collect()
    if (sys.implementation.name, sys.version_info[:2], ctypes.sizeof(ctypes.c_void_p), sys.byteorder) == _KNOWN:
        _immortalize(gc.get_objects())
    gc.freeze()
    gc.disable()


def _immortalize(objects: list[object]) -> None:
    """Those given and everything that they refer to, as far as it is not immortal yet."""
    count = ctypes.c_uint32.from_address
    while objects:
        mortal = []
        for one in objects:
            cell = count(id(one))
            if cell.value < _IMMORTAL and type(one) is not types.FrameType:  # frames, our own for one, still change
                cell.value = _IMMORTAL
                mortal.append(one)
        objects = gc.get_referents(*mortal)
