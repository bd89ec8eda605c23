"""Stored bytes: the object store and what stands on it."""
