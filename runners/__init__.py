"""Sandboxes for untrusted code: plain Python, no Django, no Celery, no object store."""
