"""Exploit museum: what a run tries to leave for the next run in its slot."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from runners.types import Status
from tests.boxes import LIMITS, Box, output

PLACES = "('/workspace', '/tmp', '/dev/shm', '/home/sandbox')"
LISTING = f"import os\nprint(sorted(x for d in (*{PLACES}, '/dev/mqueue') for x in os.listdir(d) if x != '.session_data.json'))"
LIBC = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    return (result, os.strerror(ctypes.get_errno()) if result < 0 else '')
"""
FINGERPRINT = """
import os, resource, fcntl, ctypes, sys
print(os.nice(0), sorted(os.sched_getaffinity(0)), os.sched_getscheduler(0), os.umask(0))
print([resource.getrlimit(kind) for kind in range(16)], os.getpid(), os.getpgrp(), os.getsid(0))
print([fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK for fd in (0, 1, 2)])
print(ctypes.CDLL(None).syscall(252, 1, 0), sorted(os.environ.items()), sys.path)
print(open('/proc/self/oom_score_adj').read(), open('/proc/self/timerslack_ns').read())
"""


def test_files_in_all_places(box: Box) -> None:
    left = box.run(
        f"import os\nfor d in {PLACES}:\n  open(d + '/x', 'w').write('s' * 100)\n"
        "os.makedirs('/tmp/a/b')\nos.symlink('/etc/passwd', '/workspace/l')"
    )
    assert left.changes and set(left.changes.created) == {"x"}
    assert box.text(LISTING) == "[]"


@pytest.mark.parametrize(
    "deed",
    [
        "open(d + '/x', 'w').close(); os.unlink(d + '/x')",
        "os.mkdir(d + '/x'); os.rmdir(d + '/x')",
        "os.mkfifo(d + '/x'); os.unlink(d + '/x')",
        "os.utime(d, (1, 1))",
        "os.chmod(d, 0o777)",
        "os.chown(d, 1000, 1000)",
        "os.setxattr(d, 'user.a', b'1')",
        "os.link(d + '/x', d + '/y')",
    ],
    ids=["create-unlink", "mkdir-rmdir", "fifo", "utime", "chmod", "chown", "xattr", "link"],
)
def test_traces_on_mount_roots(box: Box, deed: str) -> None:
    look = (
        f"import os\nprint([(oct(s.st_mode), s.st_mtime > 9, s.st_uid, os.listxattr(d), s.st_nlink) "
        f"for d in {PLACES} for s in [os.stat(d)]])"
    )
    fresh = box.text(look)
    box.run(f"import os\nfor d in {PLACES}:\n  try:\n    {deed}\n  except OSError as e: print(e)")
    assert box.text(look) == fresh


def test_system_v_objects(box: Box) -> None:
    make = "print(call(libc.shmget(77, 4096, 0o1666)), call(libc.semget(77, 1, 0o1666)), call(libc.msgget(77, 0o1666)))"
    find = "print(call(libc.shmget(77, 0, 0)), call(libc.semget(77, 0, 0)), call(libc.msgget(77, 0)))"
    first = box.text(LIBC + make)
    assert first.count("not implemented" if box.mode != "root" else "(0, '')") == 3
    second = box.text(LIBC + find)
    assert second.count("No such") + second.count("not implemented") == 3


def test_posix_queue(box: Box) -> None:
    library = LIBC + "rt = ctypes.CDLL('librt.so.1', use_errno=True)\n"
    first = box.text(library + "print(call(rt.mq_open(b'/q', 0o102, 0o600, None)))")
    assert "Too many open files" in first if box.mode != "root" else first.startswith("(3,")
    second = box.text(library + "print(call(rt.mq_open(b'/q', 2)), os.listdir('/dev/mqueue'))")
    assert "No such" in second and second.endswith("[]")


def test_keyrings(box: Box) -> None:
    text = box.text(
        LIBC + "print(call(libc.syscall(248, b'user', b'k', b'secret', 6, -4)), call(libc.syscall(250, 0, -3, 1)), "
        "call(libc.syscall(249, b'user', b'k', None, 0)))"
    )
    assert text.count("not permitted") == 3


def test_time_wait_and_counters(box: Box) -> None:
    used = (
        "import socket\ns = socket.create_server(('127.0.0.1', 8000)); c = socket.create_connection(('127.0.0.1', 8000))\n"
        "a, _ = s.accept(); a.close(); c.close(); print('used')"
    )
    look = (
        "import socket\nprint(open('/proc/net/tcp').read().count('\\n'), "
        "[l for l in open('/proc/net/dev').read().splitlines() if 'lo:' in l][0].split()[1])\n"
        "socket.create_server(('127.0.0.1', 8000), reuse_port=False); print('bound')"
    )
    assert box.text(used) == "used"
    assert box.text(look) == "1 0\nbound"


def test_abstract_socket_held_by_a_cycle(box: Box) -> None:
    box.run(
        "import socket\na = socket.socket(socket.AF_UNIX); a.bind('\\0abs'); a.listen(); x, y = socket.socketpair()\n"
        "socket.send_fds(x, [b'1'], [a.fileno(), x.fileno(), y.fileno(), 1, 2])"
    )
    text = box.text(
        "import socket\ntry: socket.socket(socket.AF_UNIX).connect('\\0abs'); print('CONNECTED')\n"
        "except OSError as e: print(e)\nprint(open('/proc/net/unix').read())"
    )
    assert "CONNECTED" not in text and "@abs" not in text


def test_process_attributes(box: Box) -> None:
    fresh = box.text(FINGERPRINT)
    assert len(fresh.splitlines()) == 6
    box.run(
        "import os, resource, fcntl, signal\n"
        "for kind in range(16):\n  try: resource.setrlimit(kind, (1, 1))\n  except Exception: pass\n"
        "os.nice(10)\ntry: os.sched_setaffinity(0, {0})\nexcept OSError: pass\n"
        "for fd in (0, 1, 2): fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK)\n"
        "os.umask(0o777); os.environ['LEFT'] = '1'; signal.alarm(100)\n"
        "open('/proc/self/timerslack_ns', 'w').write('99999999')"
    )
    assert box.text(FINGERPRINT) == fresh


def test_patched_interpreter_and_memory(box: Box) -> None:
    box.run(
        "import builtins, sys, json\nbuiltins.print = None; sys.modules['json'] = None; sys.path.append('/evil')\nSECRET = 'A' + 'KEY-777'"
    )
    search = (
        "import sys, ctypes\nprint('/evil' in sys.path, sys.modules['json'] is None)\nhits = 0; key = ('K' + 'EY-777').encode()\n"
        "for line in open('/proc/self/maps'):\n  words = line.split()\n  if 'rw' in words[1]:\n"
        "    low, high = [int(x, 16) for x in words[0].split('-')]\n    hits += ctypes.string_at(low, high - low).count(b'A' + key)\n"
        "print('hits', hits)"
    )
    assert box.text(search) == "False False\nhits 0"


def test_output_of_the_earlier_run(box: Box) -> None:
    box.run("print('OUTPUT' + '-SECRET-9')")
    search = (
        "import ctypes\nhits = 0; key = b'-SECR' + b'ET-9'\nfor line in open('/proc/self/maps'):\n  words = line.split()\n"
        "  if 'rw' in words[1]:\n    low, high = [int(x, 16) for x in words[0].split('-')]\n"
        "    hits += ctypes.string_at(low, high - low).count(b'OUTPUT' + key)\nprint('hits', hits)"
    )
    assert box.text(search) == "hits 0"


def test_daemon_does_not_outlive_its_run(box: Box) -> None:
    first = box.run(
        "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.close(1); os.close(2)\n"
        "    time.sleep(60)\n  os._exit(0)\nos.wait(); print('bye')"
    )
    assert first.status is Status.SUCCEEDED and output(first) == "bye"
    assert box.text("import os\nprint([x for x in os.listdir('/proc') if x.isdigit()])") == "['2']"


def test_random_generators_differ(box: Box) -> None:
    draw = "import random, uuid, secrets, os\nprint(random.random(), uuid.uuid4(), secrets.token_hex(4), os.urandom(4))"
    assert len({box.text(draw) for _ in range(3)}) == 3


def test_stdin_is_of_one_run(box: Box) -> None:
    assert box.run("print(input())", stdin=b"mine").stdout.content == b"mine\n"
    assert "EOFError" in box.text("print(input())")


def test_harvest_of_a_tree_without_rights(box: Box) -> None:
    result = box.run(
        "import os\nos.makedirs('a/b'); open('a/b/f', 'w').write('x'); open('g', 'w').write('y')\n"
        "for name in ('g', 'a/b/f', 'a/b', 'a', '/workspace'):\n  try: os.chmod(name, 0)\n  except OSError as e: print(e)"
    )
    assert result.changes and result.changes.created == ("a/b/f", "g")


def test_changes_name_links_and_not_their_targets(box: Box) -> None:
    result = box.run(
        "import os\nos.symlink('x', 'good'); os.symlink('/etc/passwd', 'bad'); open('x', 'w'); os.mkfifo('f')"
    )
    assert result.changes and "x" in result.changes.created and "good" in result.changes.created
    assert not re.search(r"passwd", str(result.changes))


def test_a_request_that_was_not_taken_is_nobodys(box: Box) -> None:
    """A child that is killed before it took its request leaves it in the socket: the next child must never see it."""
    for turn in range(8):
        short = replace(LIMITS, wall_time_s=0.001)
        assert box.run(f"print('first {turn}')", limits=short).status in (Status.TIMED_OUT, Status.SUCCEEDED)
        assert box.text(f"print('second {turn}')") == f"second {turn}"
