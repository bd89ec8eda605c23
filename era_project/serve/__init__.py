"""The server on one machine: PostgreSQL, Valkey, web and worker as one process tree."""
