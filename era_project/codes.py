"""Every error code that an answer can carry: its HTTP status and when it comes; the docs' table is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table of error codes."""

    status: int
    meaning: str


CODES: Mapping[str, Code] = {
    "INVALID_INPUT": Code(400, "A field, a parameter or a part of the path is not what it must be; `field` names it."),
    "INVALID_JSON": Code(400, "The body is no JSON object in UTF-8, or has numbers or nestings that readers choke on."),
    "MALFORMED_REQUEST": Code(400, "What came is no HTTP/1.1 that can be read."),
    "UNKNOWN_FIELD": Code(
        400, "The body or the query has a name that the route does not know; `hint` has the nearest."
    ),
    "NOT_AVAILABLE": Code(400, "A route, field or header that this version does not have."),
    "NO_CODE": Code(400, "A run without `code` in a session that has no stored code."),
    "BAD_HOST": Code(400, "The Host header is no name of this server: see `ERA_PUBLIC_URL` and `ERA_ALLOWED_HOSTS`."),
    "FORBIDDEN": Code(403, "The caller may not do this."),
    "FOREIGN_ORIGIN": Code(403, "A page of another origin called: see `ERA_CORS_ORIGINS`."),
    "NOT_FOUND": Code(404, "There is no such route, session, run or file, or it is somebody else's."),
    "METHOD_NOT_ALLOWED": Code(405, "The route exists, the method does not; `Allow` lists those that do."),
    "TIMEOUT": Code(408, "The run reached its time limit; the answer has every field of the run, partial output too."),
    "BODY_STALLED": Code(408, "Nothing of the request's body came for a minute; nothing was changed."),
    "CONFLICT": Code(409, "The state of things forbids it now."),
    "IDEMPOTENCY_MISMATCH": Code(409, "The Idempotency-Key came with another body before."),
    "SESSION_EXISTS": Code(409, "The id of the new session is taken."),
    "NOTHING_RUNS": Code(409, "There is no run in the session that could be interrupted."),
    "PRECONDITION_FAILED": Code(
        412, "The file is not the one that `If-Match` names, or exists against `If-None-Match`."
    ),
    "RANGE_NOT_SATISFIABLE": Code(416, "The range of the request begins after the end of the file."),
    "TOO_LARGE": Code(413, "More bytes than the limit that the message names."),
    "UNSUPPORTED_MEDIA_TYPE": Code(415, "The body is not `application/json`, or is compressed."),
    "TOO_MANY_REQUESTS": Code(429, "Too many at once; come again after `retry_after` seconds."),
    "QUEUE_FULL": Code(429, "As many runs of the session wait as may; `queued` tells how many."),
    "INTERNAL": Code(500, "An error of ours; the log has it under the request's id."),
    "SANDBOX_ERROR": Code(500, "The sandbox failed, not the program; the answer has the run's fields."),
    "RUN_LOST": Code(500, "The node that ran it died; the run is never run again by itself."),
    "DISK_FULL": Code(503, "The server's storage is full; nothing was changed."),
    "OBJECT_STORE_DOWN": Code(503, "The object store does not answer; nothing was changed."),
    "FILE_MISSING": Code(500, "The object store has lost the bytes of a file."),
    "UNAVAILABLE": Code(503, "A part of the server is down; `/health` names it."),
    "CANCELLED": Code(200, "The last event of a stream whose run was cancelled before it was started."),
    "QUEUE_TIMEOUT": Code(503, "Nobody could start the run within its queue timeout."),
}
