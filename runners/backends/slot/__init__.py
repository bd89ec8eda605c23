"""Slots: namespaces built once and proved untouched after every run."""

from runners.backends.slot.backend import SlotBackend

__all__ = ["SlotBackend"]
