"""Exploit museum: what a run can see of, or do to, a run that goes on at the same time."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from runners.types import Status
from tests.boxes import Box, output

VICTIM = """
import os, socket, time
server = socket.create_server(('127.0.0.1', 9000))
abstract = socket.socket(socket.AF_UNIX); abstract.bind('\\0pub'); abstract.listen()
open('/tmp/sec', 'w').write('x'); open('/dev/shm/sec', 'w').write('x')
time.sleep(1.5)
print('alive', sorted(os.listdir('/tmp')))
"""
REACH = """
import os, socket, time
time.sleep(.5)
print([x for x in os.listdir('/proc') if x.isdigit()], os.path.exists('/tmp/sec'), os.path.exists('/dev/shm/sec'))
for connect in (
    lambda: socket.create_connection(('127.0.0.1', 9000), 1),
    lambda: socket.socket(socket.AF_UNIX).connect('\\0pub'),
    lambda: socket.create_connection(('8.8.8.8', 53), 1),
    lambda: socket.create_connection(('169.254.169.254', 80), 1),
    lambda: socket.create_connection(('::1', 9000), 1),
):
    try: connect(); print('CONNECTED')
    except OSError as error: print(error)
killed = 0
for pid in [*range(1, 300), -1]:
    if pid == os.getpid(): continue
    try: os.kill(pid, 9)
    except OSError: continue
    killed += 1
print('killed', killed)
"""


def test_other_run(box: Box) -> None:
    victim, attacker = box.both(VICTIM, REACH)
    assert output(victim) == "alive ['sec']" and victim.status is Status.SUCCEEDED
    lines = output(attacker).splitlines()
    assert lines[0] == "['2'] False False"
    assert "CONNECTED" not in lines and lines[-1] == "killed 0"


def test_a_full_process_count_stops_no_other(box: Box) -> None:
    full = "import os, time\ntry:\n  for _ in range(200):\n    if os.fork() == 0: time.sleep(60); os._exit(0)\nexcept OSError: print('full')\ntime.sleep(1)"
    other = "import os, time\ntime.sleep(.5)\nif os.fork() == 0: os._exit(0)\nprint('forked', os.wait()[1])"
    first, second = box.both(full, other)
    assert output(first).endswith("full") and output(second) == "forked 0"


def test_inotify_of_one_is_not_the_others(box: Box) -> None:
    take = "import ctypes, time\nlibc = ctypes.CDLL(None); n = 0\nwhile libc.inotify_init() >= 0: n += 1\nprint(n)\ntime.sleep(1)"
    first, second = box.both(take, take)
    assert 2 <= int(output(first)) <= 16 and 2 <= int(output(second)) <= 16


def test_host_services(box: Box, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("KEY")
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0era-test-{os.getpid()}")
    abstract.listen()
    named = socket.socket(socket.AF_UNIX)
    path = f"/tmp/era-test-{os.getpid()}.sock"
    named.bind(path)
    named.listen()
    port = socket.create_server(("127.0.0.1", 0))
    try:
        text = box.text(
            f"import os, socket\nfound = []\n"
            f"for f in ({str(secret)!r}, '/root', '/run', '/sys', '/etc/shadow', '/dev/kmsg', '/dev/pts', '/dev/tty', '/app', '/new',"
            f"'/ws', '/.old', '/.host', '/usr/local', '/usr/lib/python3', {str(Path.cwd())!r}, '/proc/{os.getpid()}', '/proc/1/root'):\n"
            "  if os.path.exists(f): found.append(f)\n"
            f"for kind, address in ((1, '\\0era-test-{os.getpid()}'), (1, {path!r}), (2, ('127.0.0.1', {port.getsockname()[1]}))):\n"
            "  try: socket.socket(kind).connect(address); found.append(address)\n  except OSError: pass\n"
            "print(found, open('/proc/self/status').read().split('Groups:')[1].split(chr(10))[0].split(), os.listdir('/var'))"
        )
    finally:
        for one in (abstract, named, port):
            one.close()
        Path(path).unlink()
    assert text in ("[] [] []", "[] ['65534'] []")
