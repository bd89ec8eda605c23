"""Slots: namespaces built once and proved untouched after every run."""
