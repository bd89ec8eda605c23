"""The contract's cases of bad input: what is sent, and the status, code and field of the answer.

``{session}`` in a path stands for a session that exists, ``{empty}`` for one without stored code.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIB = 1 << 20


@dataclass(frozen=True)
class Case:
    """One request and the error that it gets."""

    name: str
    request: str
    """Method and path."""
    body: Any = None
    status: int = 400
    code: str = "INVALID_INPUT"
    field: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


EXECUTE = "POST /api/execute"
CREATE = "POST /api/sessions"
RUN = "POST /api/sessions/{session}/run"
PATCH = "PATCH /api/sessions/{session}"
ONE = {"language": "python", "code": "1"}


def execute(name: str, field: str, **changes: Any) -> Case:
    """A one-shot whose ``field`` is wrong."""
    return Case(name, EXECUTE, {**ONE, **changes}, field=field)


def create(name: str, field: str, **changes: Any) -> Case:
    """A creation whose ``field`` is wrong."""
    return Case(name, CREATE, {"language": "python", **changes}, field=field)


def absent(name: str, request: str, field: str | None = None, body: Any = None) -> Case:
    """Something that this version does not have."""
    return Case(name, request, body, code="NOT_AVAILABLE", field=field)


JSON = (
    Case("no body", EXECUTE, field="language"),
    Case("no JSON", EXECUTE, b"{", code="INVALID_JSON"),
    Case("a list", EXECUTE, b"[]", code="INVALID_JSON"),
    Case("a number", EXECUTE, b"5", code="INVALID_JSON"),
    Case("NaN", EXECUTE, b'{"code": NaN}', code="INVALID_JSON"),
    Case("no UTF-8", EXECUTE, b'{"code": "\xff"}', code="INVALID_JSON"),
    Case("a byte order mark", EXECUTE, b"\xef\xbb\xbf{}", code="INVALID_JSON"),
    Case("a lone surrogate", EXECUTE, b'{"code": "\\ud800"}', code="INVALID_JSON"),
    Case("an encoded surrogate", EXECUTE, b'{"code": "\xed\xa0\x80"}', code="INVALID_JSON"),
    Case("a number beyond doubles", EXECUTE, b'{"timeout": 1e400}', code="INVALID_JSON"),
    Case("a number of 5,000 digits", CREATE, b'{"data": {"a": ' + b"9" * 5000 + b"}}", code="INVALID_JSON"),
    Case("nested 600 deep", CREATE, b'{"data": {"a": ' + b"[" * 600 + b"]" * 600 + b"}}", code="INVALID_JSON"),
    Case(
        "nested 100,000 deep", CREATE, b'{"data": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", code="INVALID_JSON"
    ),
    Case(
        "a form",
        EXECUTE,
        b"code=1",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
        headers={"content-type": "application/x-www-form-urlencoded"},
    ),
    Case("text", EXECUTE, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE", headers={"content-type": "text/plain"}),
    Case("no type", EXECUTE, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE", headers={"content-type": "-"}),
    Case("compressed", EXECUTE, b"{}", 415, "UNSUPPORTED_MEDIA_TYPE", headers={"content-encoding": "gzip"}),
    Case("a body over the limit", EXECUTE, b" " * (16 * MIB + 1), 413, "TOO_LARGE"),
    Case(
        "a body over the limit, length unsaid",
        EXECUTE,
        b" " * (16 * MIB + 1),
        413,
        "TOO_LARGE",
        headers={"content-length": "-"},
    ),
    Case("a length that is no number", EXECUTE, b"{}", headers={"content-length": "two"}),
)

FIELDS = (
    Case("an unknown field", EXECUTE, {**ONE, "envs": {}}, code="UNKNOWN_FIELD", field="envs"),
    Case("an unknown field of a session", CREATE, {"language": "go", "lang": 1}, code="UNKNOWN_FIELD", field="lang"),
    Case("an unknown field of PATCH", PATCH, {"language": "node"}, code="UNKNOWN_FIELD", field="language"),
    Case("an unknown field of run", RUN, {"code": "1", "language": "python"}, code="UNKNOWN_FIELD", field="language"),
    Case(
        "an unknown field of restart", "POST /api/sessions/{session}/restart", {"a": 1}, code="UNKNOWN_FIELD", field="a"
    ),
    Case("an unknown parameter", "GET /api/sessions?limits=1", code="UNKNOWN_FIELD", field="limits"),
    Case("an unknown parameter of runs", "GET /api/runs?session=a", code="UNKNOWN_FIELD", field="session"),
    Case("no language", EXECUTE, {"code": "1"}, field="language"),
    Case("no code", EXECUTE, {"language": "python"}, field="code"),
    Case("an unknown language", EXECUTE, {"language": "cobol", "code": "1"}, field="language"),
    Case("a language that is no string", EXECUTE, {"language": ["python"], "code": "1"}, field="language"),
    execute("code that is a number", "code", code=1),
    execute("code that is null", "code", code=None),
    execute("code with a NUL", "code", code="a\0b"),
    Case("code over the limit", EXECUTE, {**ONE, "code": "x" * (4 * MIB + 1)}, 413, "TOO_LARGE", "code"),
    execute("a timeout that is text", "timeout", timeout="5"),
    execute("a timeout that is true", "timeout", timeout=True),
    execute("a timeout of 0", "timeout", timeout=0),
    execute("a timeout below 0", "timeout_ms", timeout_ms=-1),
    execute("a timeout over the maximum", "timeout", timeout=3600.5),
    execute("a timeout in ms over the maximum", "timeout_ms", timeout_ms=3_600_001),
    execute("both timeouts", "timeout", timeout=1, timeout_ms=1000),
    execute("a queue timeout of 0", "queue_timeout", queue_timeout=0),
    execute("env that is a list", "env", env=["A=1"]),
    execute("env with a number", "env.A", env={"A": 1}),
    execute("env with a NUL", "env.A", env={"A": "\0"}),
    execute("env with a name with =", "env", env={"A=B": "1"}),
    execute("env with an empty name", "env", env={"": "1"}),
    Case("env over the limit", EXECUTE, {**ONE, "env": {"A": "x" * (128 << 10)}}, 413, "TOO_LARGE", "env"),
    execute("stdin that is a list", "stdin", stdin=["a"]),
    execute("args that are text", "args", args="a b"),
    execute("args with a number", "args[1]", args=["a", 1]),
    execute("args with a NUL", "args[0]", args=["\0"]),
    execute("a cpu_count of 0", "cpu_count", cpu_count=0),
    execute("a cpu_count over the maximum", "cpu_count", cpu_count=8.1),
    execute("a memory_mib that is a fraction", "memory_mib", memory_mib=256.5),
    execute("a memory_mib over the maximum", "memory_mib", memory_mib=8193),
    execute("a memory_mib that nothing fits into", "memory_mib", memory_mib=1),
    execute("files that are a list", "files", files=[]),
    execute("a file that is a number", "files.a", files={"a": 1}),
    execute("a file that is no base64", "files.a.base64", files={"a": {"base64": "*"}}),
    execute("a file of another encoding", "files.a", files={"a": {"hex": "00"}}),
    execute("a file above the workspace", "files.../a", files={"../a": ""}),
    execute("a file at the root", "files./etc/passwd", files={"/etc/passwd": ""}),
    execute("a file that is a folder too", "files", files={"a": "", "a/b": ""}),
    execute("a file with a reserved name", "files..session_data.json", files={".session_data.json": "{}"}),
    execute("a file with a long segment", "files." + "x" * 200, files={"x" * 256: ""}),
    execute("an unknown sandbox", "sandbox", sandbox="docker"),
    execute("wait that is a number", "wait", wait=1),
    execute("an unknown on_disconnect", "on_disconnect", on_disconnect="ignore"),
    execute("a webhook that is no URL", "webhook", webhook="example"),
    execute("a webhook of another scheme", "webhook", webhook="file:///etc/passwd"),
    execute("a webhook at a private address", "webhook", webhook="http://127.0.0.1:8787/hook"),
    execute("a webhook at the metadata's address", "webhook", webhook="http://169.254.169.254/latest"),
    execute("internet access that is text", "allowInternetAccess", allowInternetAccess="no"),
    create("an id that begins with a dot", "session_id", session_id=".a"),
    create("an id with a slash", "session_id", session_id="a/b"),
    create("an id with a line end", "session_id", session_id="a\n"),
    create("an id with a NUL", "session_id", session_id="a\0"),
    create("an id that is too long", "session_id", session_id="a" * 129),
    create("an empty id", "session_id", session_id=""),
    create("an id that is a number", "session_id", session_id=5),
    create("persistent that is text", "persistent", persistent="yes"),
    create("data that is a list", "data", data=[]),
    create("metadata that is text", "metadata", metadata="a"),
    create("metadata with a NUL", "metadata", metadata={"a": ["\0"]}),
    create("metadata with a NUL in a key", "metadata", metadata={"a\0": 1}),
    create("a default_timeout of 0", "default_timeout", default_timeout=0),
    Case("data over the limit", CREATE, {"language": "go", "data": {"a": "x" * MIB}}, 413, "TOO_LARGE", "data"),
    Case(
        "metadata over the limit",
        CREATE,
        {"language": "go", "metadata": {"a": "x" * MIB}},
        413,
        "TOO_LARGE",
        "metadata",
    ),
    Case("update_data that is null", RUN, {"code": "1", "update_data": None}, field="update_data"),
    Case("both names of the copy", "POST /api/sessions/{session}/duplicate", {"id": "a", "new_id": "b"}, field="id"),
    Case("stored code that is missing", "PUT /api/sessions/{session}/code", {}, field="code"),
    Case("a limit of 0", "GET /api/sessions?limit=0", field="limit"),
    Case("a limit that is text", "GET /api/sessions?limit=ten", field="limit"),
    Case("an offset below 0", "GET /api/sessions?offset=-1", field="offset"),
    Case("a limit given twice", "GET /api/sessions?limit=1&limit=2", field="limit"),
    Case("a search with a NUL", "GET /api/sessions?q=%00", field="q"),
    Case("a search that is no UTF-8", "GET /api/sessions?q=%ff", field="q"),
    Case("a language that is unknown", "GET /api/sessions?language=cobol", field="language"),
    Case("a status that is unknown", "GET /api/runs?status=done", field="status"),
    Case("a limit over the maximum", "GET /api/runs?limit=1001", field="limit"),
    Case("a cursor that is none", "GET /api/runs?cursor=x", field="cursor"),
)

ROUTES = (
    Case("an unknown route", "GET /api/nothing", status=404, code="NOT_FOUND"),
    Case("the root", "GET /", status=404, code="NOT_FOUND"),
    Case("a slash at the end", "GET /api/sessions/", status=404, code="NOT_FOUND"),
    Case("a slash at the end of execute", "POST /api/execute/", ONE, 404, "NOT_FOUND"),
    Case("a static file that is missing", "GET /static/nothing.css", status=404, code="NOT_FOUND"),
    Case("a static file elsewhere", "GET /static/../../../etc/passwd", status=404, code="NOT_FOUND"),
    Case("an encoded slash", "GET /api/sessions/a%2Fb", status=404, code="NOT_FOUND"),
    Case("a NUL in an id", "GET /api/sessions/a%00", field="path"),
    Case("an id that is no UTF-8", "GET /api/sessions/%ff", field="path"),
    Case("another method", "GET /api/execute", status=405, code="METHOD_NOT_ALLOWED"),
    Case("another method of sessions", "PUT /api/sessions", {}, 405, "METHOD_NOT_ALLOWED"),
    Case("another method of health", "POST /health", {}, 405, "METHOD_NOT_ALLOWED"),
    Case("another method of a stream", "GET /api/execute/stream", status=405, code="METHOD_NOT_ALLOWED"),
    Case("another method of a file", "POST /api/sessions/{session}/files/a", {}, 405, "METHOD_NOT_ALLOWED"),
    Case("an unheard method", "BREW /api/sessions", status=405, code="METHOD_NOT_ALLOWED"),
    Case("a static file written", "PUT /static/a.css", {}, 405, "METHOD_NOT_ALLOWED"),
    Case("no such session", "GET /api/sessions/nobody", status=404, code="NOT_FOUND"),
    Case("no such session to change", "PATCH /api/sessions/nobody", {}, 404, "NOT_FOUND"),
    Case("no such session to delete", "DELETE /api/sessions/nobody", status=404, code="NOT_FOUND"),
    Case("no such session to copy", "POST /api/sessions/nobody/duplicate", {}, 404, "NOT_FOUND"),
    Case("no such session to run in", "POST /api/sessions/nobody/run", {"code": "1"}, 404, "NOT_FOUND"),
    Case("no such session to restart", "POST /api/sessions/nobody/restart", status=404, code="NOT_FOUND"),
    Case("no such session to interrupt", "POST /api/sessions/nobody/interrupt", status=404, code="NOT_FOUND"),
    Case("no such session with files", "GET /api/sessions/nobody/files", status=404, code="NOT_FOUND"),
    Case("no such session with code", "GET /api/sessions/nobody/code", status=404, code="NOT_FOUND"),
    Case("no such session for code", "PUT /api/sessions/nobody/code", {"code": "1"}, 404, "NOT_FOUND"),
    Case("no stored code", "GET /api/sessions/{empty}/code", status=404, code="NOT_FOUND"),
    Case("no stored code to run", "POST /api/sessions/{empty}/run", {}, 400, "NO_CODE"),
    Case("nothing to interrupt", "POST /api/sessions/{empty}/interrupt", status=409, code="NOTHING_RUNS"),
    Case("no such run", "GET /api/runs/01a221d3-ce9e-7c9e-91e4-01072b548299", status=404, code="NOT_FOUND"),
    Case(
        "no such run to cancel", "DELETE /api/runs/01a221d3-ce9e-7c9e-91e4-01072b548299", status=404, code="NOT_FOUND"
    ),
    Case("no id of a run", "GET /api/runs/5", status=404, code="NOT_FOUND"),
    Case(
        "an id that is taken",
        CREATE,
        {"language": "python", "session_id": "{session}"},
        409,
        "SESSION_EXISTS",
        "session_id",
    ),
    Case(
        "an id for the copy that is taken",
        "POST /api/sessions/{session}/duplicate",
        {"new_id": "{session}"},
        409,
        "SESSION_EXISTS",
        "new_id",
    ),
)

BROWSERS = (
    Case("a foreign host", "GET /health", code="BAD_HOST", headers={"host": "evil.example"}),
    Case("a foreign host that looks near", "GET /health", code="BAD_HOST", headers={"host": "localhost.evil.example"}),
    Case("no host", "GET /health", code="BAD_HOST", headers={"host": "-"}),
    Case("a malformed host", "GET /health", code="BAD_HOST", headers={"host": "localhost:80:80"}),
    Case("a foreign host at the admin", "GET /admin/", code="BAD_HOST", headers={"host": "evil.example"}),
    Case("a foreign origin", EXECUTE, ONE, 403, "FOREIGN_ORIGIN", headers={"origin": "https://evil.example"}),
    Case("no origin at all", EXECUTE, ONE, 403, "FOREIGN_ORIGIN", headers={"origin": "null"}),
    Case("another port", EXECUTE, ONE, 403, "FOREIGN_ORIGIN", headers={"origin": "http://localhost:3000"}),
    Case(
        "a foreign preflight",
        "OPTIONS /api/execute",
        None,
        403,
        "FOREIGN_ORIGIN",
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    ),
)

ABSENT = (
    absent("setup", CREATE, "setup", {"language": "python", "setup": {"pip": ["requests"]}}),
    absent("setup that is null", CREATE, "setup", {"language": "python", "setup": None}),
    absent("gvisor", EXECUTE, "sandbox", {**ONE, "sandbox": "gvisor"}),
    absent("gvisor for a session", CREATE, "sandbox", {"language": "python", "sandbox": "gvisor"}),
    absent("internet access", EXECUTE, "allowInternetAccess", {**ONE, "allowInternetAccess": True}),
    absent("internet access of a session", PATCH, "allowInternetAccess", {"allowInternetAccess": True}),
    absent("public access", PATCH, "allowPublicAccess", {"allowPublicAccess": True}),
    absent("an expiry", CREATE, "expires_at", {"language": "python", "expires_at": "2030-01-01T00:00:00Z"}),
    absent("an idle timeout", CREATE, "idle_timeout", {"language": "python", "idle_timeout": 60}),
    absent("setup again", "POST /api/sessions/{session}/setup", None, {}),
    absent("a port's address", "GET /api/sessions/{session}/host?port=8000"),
    absent("the proxy", "GET /proxy/{session}/8000/index.html"),
    absent("keys and values", "GET /api/storage/kv/ns/key"),
    absent("SQL", "POST /api/storage/d1/ns/query", None, {"sql": "SELECT 1"}),
    absent("objects", "PUT /api/storage/r2/ns/key", None, {"content": ""}),
    absent("resources", "GET /api/resources/list?type=kv"),
    absent("their figures", "GET /api/resources/stats"),
    absent("chat", "POST /chat", None, {"messages": []}),
    absent("chat at once", "POST /chat/sync", None, {"messages": []}),
    absent("chat's sessions", "GET /sessions"),
    Case("a token", "GET /api/sessions", code="NOT_AVAILABLE", headers={"authorization": "Bearer abc"}),
)

CASES = (*JSON, *FIELDS, *ROUTES, *BROWSERS, *ABSENT)

ELSEWHERE: Mapping[str, str] = {
    "MALFORMED_REQUEST": "tests/integration/api/test_over_http.py: garbage on the socket",
    "BODY_STALLED": "tests/integration/files: an upload that stalls",
    "CANCELLED": "tests/integration/streams: a run that is cancelled while it waits",
    "PRECONDITION_FAILED": "tests/integration/files: If-Match of another content",
    "RANGE_NOT_SATISFIABLE": "tests/integration/files: a range after the end",
    "DISK_FULL": "tests/integration/files: a small disk",
    "OBJECT_STORE_DOWN": "tests/integration/files: a store that is away",
    "FILE_MISSING": "tests/integration/files: a blob that is gone",
    "IDEMPOTENCY_MISMATCH": "tests/integration/streams: a key with another body",
    "FORBIDDEN": "tests/integration/api/test_admin.py: a form without its token",
    "TIMEOUT": "tests/acceptance: a run that reaches its limit",
    "CONFLICT": "tests/integration/files: a file where a folder is",
    "TOO_MANY_REQUESTS": "no route of this version answers it without a code of its own",
    "QUEUE_FULL": "tests/integration: more runs than may wait",
    "INTERNAL": "tests/integration/api/test_errors.py: a view that fails",
    "SANDBOX_ERROR": "tests/integration: a sandbox that cannot start",
    "RUN_LOST": "tests/integration: a node that dies",
    "UNAVAILABLE": "tests/integration/api/test_errors.py: a part that is down",
    "QUEUE_TIMEOUT": "tests/integration: a run that nobody starts",
}
"""Codes that need more than one request, and where they are tried."""
