"""Exploit museum: rights, pid 1 of the slot, and the file system around the run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runners.types import Status
from tests.boxes import Box
from tests.security.test_residue import FINGERPRINT, LIBC

PID1 = (
    LIBC
    + """
import signal, socket, fcntl, struct
S = lambda *a: call(libc.syscall(*[ctypes.c_long(x) if isinstance(x, int) else x for x in a]))
B = ctypes.create_string_buffer
R = {}
for n, a in dict(kill=(62,1,10), kill_hi=(62,(1<<32)+1,10), tkill=(200,1,10), tgkill=(234,1,1,10), sigqueue=(129,1,10,B(128)),
    tgsigqueue=(297,1,1,10,B(128)), pidfd_open=(434,1,0), prlimit=(302,1,7,B(struct.pack('QQ',3,3)),None),
    prlimit_cpu=(302,1,0,B(struct.pack('QQ',1,1)),None), affinity=(203,1,8,B(struct.pack('Q',1))), sched=(144,1,3,B(8)),
    sched_attr=(314,1,B(struct.pack('IIQiIQQQ',48,3,0,5,0,0,0,0)),0), sched_param=(142,1,B(8)), nice1=(141,0,1,19),
    nice_user=(141,2,0,19), nice_user1000=(141,2,1000,19), nice_pgrp=(141,1,0,19), io1=(251,1,1,0x6007), io_user=(251,3,1000,0x6007),
    io_pgrp=(251,2,0,0x6007), ptrace=(101,16,1,0,0), seize=(101,0x4206,1,0,0), vm_read=(310,1,0,1,0,1,0), vm_write=(311,1,0,1,0,1,0),
    kcmp=(312,1,os.getpid(),0,0,0), getfd=(438,3,3,0), madv=(440,3,0,0,0,0), move_pages=(279,1,0,0,0,0,0), migrate=(256,1,0,0,0),
    setpgid=(109,1,0), setns=(308,3,0)).items(): R[n] = S(*a)
a, b = socket.socketpair(); a.setblocking(False)
try: fcntl.fcntl(a, 8, 1); R['setown'] = (0,)
except OSError as e: R['setown'] = (-1, e.strerror)
R['setown_ex'] = S(72, a.fileno(), 15, B(struct.pack('ii', 1, 1)))
for n, c in (('fiosetown', 0x8901), ('siocspgrp', 0x8902)): R[n] = S(16, a.fileno(), c, B(struct.pack('i', 1)))
fcntl.fcntl(a, 10, 10); fcntl.fcntl(a, 4, 0o20000 | 0o4000); b.send(b'x')
for f in ('/proc/1','/proc/1/stat','/proc/1/exe','/proc/1/task/1/mem','/proc/1/ns/pid','/proc/1/oom_score_adj','/proc/1/timerslack_ns'):
  try: d = os.open(f, 0); R[f] = (0,); R[f + ' pidfd_send_signal'] = S(424, d, 10, None, 0)
  except OSError as e: R[f] = (-1, e.strerror)
print('REACHED', *[k for k, v in R.items() if v[0] >= 0])
"""
)
HARMLESS = {
    "nice_user1000",
    "nice_user",
    "nice_pgrp",
    "io_user",
    "io_pgrp",
    "setown",
    "setown_ex",
    "fiosetown",
    "siocspgrp",
}
"""Where pid 1 has another uid: they reach the run itself, or name an owner to whom the kernel delivers nothing."""
LOOK = """
import os
changed = []
for d in ('/', '/usr/bin', '/usr/bin/env', '/usr/lib', '/etc', '/etc/passwd', '/dev', '/dev/null', '/dev/mqueue', '/.scratch', '/home',
          '/proc', '/proc/self/oom_score_adj', '/proc/self/exe', '/opt/rt', '/opt/rt/python/bin/python3', '/opt/rt/drivers', '/var'):
  for n, f in dict(mode=lambda: os.chmod(d, 0o777), time=lambda: os.utime(d, (1, 1)), x=lambda: os.setxattr(d, 'user.a', b'1'),
      own=lambda: os.chown(d, os.getuid(), os.getgid()), new=lambda: os.close(os.open(d + '/zz', os.O_CREAT | os.O_WRONLY)),
      fd=lambda: os.fchmod(os.open(d, os.O_RDONLY), 0o777), rw=lambda: os.open(d, os.O_RDWR) if d != '/dev/null' else 1 / 0).items():
    try: f(); changed.append((d, n))
    except (OSError, ZeroDivisionError): pass
print(changed, os.listdir('/.scratch'))
"""


def test_status(box: Box) -> None:
    text = box.text(
        "print([l for l in open('/proc/self/status').read().splitlines() if l.startswith(('Cap', 'NoNew', 'Seccomp:'))])"
    )
    assert text.count("0000000000000000") == 5
    assert "NoNewPrivs:\\t1" in text and "Seccomp:\\t2" in text


def test_uids_on_the_host_are_never_roots(box: Box) -> None:
    text = box.text("print(open('/proc/self/uid_map').read().split())")
    maps = eval(text)
    # (inside, outside as the world sees it, count): the outside of pid 1 and of user code.
    assert "0" not in maps[1::3] if box.mode == "root" else maps == ["1000", "1000", "1"]


def test_namespaces_and_mounts_are_refused(box: Box) -> None:
    text = box.text(
        LIBC + "print(call(libc.mount(b'x', b'/tmp', b'tmpfs', 0, None)), call(libc.umount2(b'/workspace', 2)),"
        "[call(libc.unshare(f)) for f in (0x20000, 0x10000000, 0x40000000, 0x8000000, 0x20000000)], call(libc.setns(0, 0)),"
        "call(libc.chroot(b'/tmp')), call(libc.ptrace(0, 0, 0, 0)), call(libc.syscall(321, 0, 0, 0)),"
        "call(libc.syscall(56, 0x10000011, 0, 0, 0, 0)), call(libc.syscall(435, b'x' * 88, 88)), call(libc.setuid(0)))"
    )
    assert "(0," not in text and text.count("(-1,") == 14


def test_pid1_files(box: Box) -> None:
    text = box.text(
        "import os\nfor f in ('root/etc', 'mem', 'maps', 'environ', 'fd', 'cwd', 'status', 'cmdline', 'ns/net', 'exe'):\n"
        "  for m in ('r', 'w'):\n    try: open('/proc/1/' + f, m); print('OPEN', f)\n    except IsADirectoryError: print('OPEN', f)\n"
        "    except OSError: pass\ntry: print('OPEN', os.listdir('/proc/1/root'))\nexcept OSError as e: print(e.strerror)"
    )
    assert "OPEN" not in text


def test_pid1_by_every_call_that_takes_a_pid(box: Box) -> None:
    fresh = box.text(FINGERPRINT)
    reached = set(box.text(PID1).split()[1:])
    assert reached <= (HARMLESS if box.mode == "root" else set())
    assert box.text(FINGERPRINT) == fresh


def test_clone_parent_and_signals_to_all(box: Box) -> None:
    result = box.run(
        LIBC
        + "n = 0\nfor i in range(300):\n  r = libc.syscall(56, 0x8000 | 17, 0, 0, 0, 0)\n  if r == 0: os._exit(0)\n  n += r > 0\n"
        "print(n)\nos.kill(-1, 10)\nos.kill(0, 0)"
    )
    assert result.status in (Status.SUCCEEDED, Status.FAILED)
    assert box.text("print('fine')") == "fine"


def test_ways_to_capabilities(box: Box) -> None:
    text = box.text(
        LIBC
        + "import subprocess, re\nh = ctypes.create_string_buffer(b'\\x22\\x05\\x08\\x20' + bytes(4)); d = ctypes.create_string_buffer(b'\\xff' * 24)\n"
        "print('capset', libc.capset(h, d), 'ambient', libc.prctl(47, 2, 21, 0, 0), 'userns', libc.syscall(272, 0x10000000))\n"
        "for c in ('cat /proc/self/status', 'su -c id', 'mount', 'unshare -Ur id'):\n"
        "  try:\n    r = subprocess.run(c.split(), capture_output=True, text=True, timeout=9)\n"
        "    print(c, re.findall('Cap(?:Eff|Prm|Bnd|Inh|Amb):[^0]*0*([1-9a-f])', r.stdout), 'uid=0(' in r.stdout)\n"
        "  except Exception as e: print(c, type(e).__name__)"
    )
    assert text.startswith("capset -1 ambient -1 userns -1")
    assert "cat /proc/self/status [] False" in text and "True" not in text


def test_writable_kernel_files(box: Box) -> None:
    text = box.text(
        "import os\nfound = []\nfor d, _, fs in os.walk('/proc/sys'):\n  for f in fs:\n    try: os.close(os.open(d + '/' + f, os.O_WRONLY)); found.append(d + '/' + f)\n"
        "    except OSError: pass\n"
        "for f in ('/proc/sysrq-trigger', '/proc/self/uid_map', '/proc/self/attr/current', '/proc/self/setgroups', '/proc/self/mem_bomb'):\n"
        "  try: os.close(os.open(f, os.O_WRONLY)); found.append(f)\n  except OSError: pass\nprint(found, os.path.exists('/sys'))"
    )
    assert text == "[] False"


def test_owner_of_the_mounts(box: Box) -> None:
    assert box.text(LOOK) == "[] []"


def test_own_executable_on_the_host_keeps_its_mode(box: Box) -> None:
    from tests import stack

    program = stack.current.runtimes / "python" / "bin" / "python3.14"
    before = os.stat(program).st_mode
    assert "OSError" in box.text(
        "import os\ntry: os.chmod('/proc/self/exe', 0)\nexcept OSError as e: print('OSError', e.errno)"
    )
    assert os.stat(program).st_mode == before


def test_writable_places(box: Box) -> None:
    text = box.text(
        "import os\nprint(sorted(d for d, _, _ in os.walk('/') if not d.startswith('/proc') and os.access(d, os.W_OK)))"
    )
    assert text == "['/dev/shm', '/home/sandbox', '/tmp', '/workspace']"


def test_descriptors(box: Box) -> None:
    text = box.text(
        "import os\nprint([f for f in range(100) if os.path.exists('/proc/self/fd/%d' % f)]); open('/dev/stdout', 'w').write('via /dev/stdout')"
    )
    assert text == "[0, 1, 2]\nvia /dev/stdout"


def test_core_dumps_start_nothing(box: Box) -> None:
    result = box.run(
        "import os, resource\ntry: resource.setrlimit(4, (0, 1)); print('SET')\nexcept (OSError, ValueError) as e: print(e)\n"
        "print(resource.getrlimit(4)); os.abort()"
    )
    assert b"SET" not in result.stdout.content and b"(1, 1)" in result.stdout.content
    assert result.signal == 6 and result.exit_code == 134
    assert result.changes and not result.changes.created


def test_stdin_cannot_grow(box: Box) -> None:
    text = box.text(
        "import os\nfor f in (lambda: os.ftruncate(0, 1 << 28), lambda: os.write(0, b'x' * 9), lambda: os.write(os.open('/proc/self/fd/0', os.O_RDWR), b'x')):\n"
        "  try: f(); print('GREW')\n  except OSError as e: print(e.strerror)",
        stdin=b"abc",
    )
    assert "GREW" not in text


def test_queued_signals(box: Box) -> None:
    text = box.text(
        "import os, signal, ctypes\nsignal.pthread_sigmask(0, range(40, 60)); libc = ctypes.CDLL(None); n = 0\n"
        "while libc.sigqueue(os.getpid(), 40, None) == 0: n += 1\nprint(n)\nos._exit(0)"
    )
    assert int(text) <= 1024


@pytest.mark.parametrize("family", ["AF_VSOCK", "AF_PACKET", "AF_ALG", "AF_KEY"])
def test_socket_families(box: Box, family: str) -> None:
    text = box.text(
        f"import socket\ntry: socket.socket(getattr(socket, '{family}', 15), socket.SOCK_RAW); print('OPEN')\nexcept OSError as e: print(e)"
    )
    assert "OPEN" not in text


def test_nothing_of_the_host_in_memory_or_names(box: Box) -> None:
    from tests import stack

    words = [str(Path.cwd()), str(stack.current.state), str(stack.current.base)]
    keys = [word.encode()[1:] for word in words]
    text = box.text(
        f"import ctypes, sys\nkeys = [bytes([47]) + bytes(k) for k in {[list(key) for key in keys]}]\nhits = 0\n"
        "for line in open('/proc/self/maps'):\n  words = line.split()\n  if 'rw' in words[1] and '[stack]' not in line:\n"
        "    low, high = [int(x, 16) for x in words[0].split('-')]\n    data = ctypes.string_at(low, high - low)\n"
        "    hits += sum(data.count(k) for k in keys)\n"
        "print(hits, [k for k in keys if k in open('/proc/self/cmdline', 'rb').read()], sys.path, sys._getframe().f_back.f_code.co_filename)"
    )
    hits, rest = text.split(" ", 1)
    # The keys themselves are three bytes objects, with a copy in a buffer now and then.
    assert int(hits) <= 6
    assert rest.startswith("[] ['/workspace', '/opt/rt/")
    assert rest.endswith("program.py") and "/app/" in rest
