"""The server on one machine: PostgreSQL, Valkey, web, worker and beat as one process tree."""
