"""Exploit museum: programs that want more than their share, and the run after them, and the one beside them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runners.types import MIB, RunResult, Status
from tests.boxes import LIMITS, Box, output

SHORT = replace(LIMITS, wall_time_s=1.5)
LONG = replace(LIMITS, wall_time_s=25.0)


@pytest.fixture(autouse=True)
def _fine_afterwards(box: Box) -> Iterator[None]:
    yield
    assert box.text("print(6 * 7)") == "42"


def memory_ended(result: RunResult) -> bool:
    return result.status is Status.OUT_OF_MEMORY and result.exit_code == 137 and bool(result.reason)


def test_fork_bomb(box: Box) -> None:
    result = box.run("import os\nwhile 1:\n  try: os.fork()\n  except OSError: pass", limits=SHORT)
    assert result.status is Status.TIMED_OUT and result.exit_code == 124


def test_fork_bomb_beside_an_exact_counter(box: Box) -> None:
    counter = "import time\nn = 0\nfor _ in range(100):\n  n += 1; time.sleep(.01)\nprint('counted', n)"
    with ThreadPoolExecutor(1) as pool:
        neighbour = pool.submit(box.run, counter, limits=LONG)
        box.run("import os\nwhile 1:\n  try: os.fork()\n  except OSError: pass", limits=SHORT)
        assert output(neighbour.result()) == "counted 100"


def test_memory_in_one_process(box: Box) -> None:
    result = box.run("x = bytearray(10**9)")
    if box.mode == "root":
        assert memory_ended(result)
    else:
        assert "MemoryError" in output(result) and result.exit_code == 1


def test_memory_in_one_process_that_stays(box: Box) -> None:
    assert memory_ended(box.run("import time\nx = bytearray(400 << 20); time.sleep(20)", limits=LONG))


def test_memory_in_a_child(box: Box) -> None:
    result = box.run(
        "import os, time\nif os.fork() == 0: x = bytearray(400 << 20); time.sleep(20)\nprint(os.wait())", limits=LONG
    )
    assert memory_ended(result)


def test_memory_in_many(box: Box) -> None:
    code = (
        "import os, time\nfor i in range(6):\n  if os.fork() == 0: x = bytearray(100 << 20); time.sleep(60)\nos.wait()"
    )
    assert memory_ended(box.run(code, limits=LONG))


def test_shared_memory_hidden_from_figures(box: Box) -> None:
    code = (
        "import mmap, time\nkept = []\nwhile len(kept) < 40:\n  m = mmap.mmap(-1, 32 << 20)\n"
        "  for i in range(0, len(m), 4096): m[i] = 1\n  m.madvise(mmap.MADV_DONTNEED); kept.append(m)\ntime.sleep(20)"
    )
    assert memory_ended(box.run(code, limits=LONG))


def test_files_in_memory(box: Box) -> None:
    code = "block = b'x' * MIB\nfor d in ('/tmp', '/workspace', '/dev/shm'):\n  try:\n    with open(d + '/b', 'wb') as f:\n      for i in range(200): f.write(block)\n  except OSError as e: print(d, e.strerror)"
    text = box.text(code.replace("MIB", str(MIB)))
    assert text.count("No space") == 3


def test_inodes(box: Box) -> None:
    code = "import os\nfor d in ('/tmp', '/workspace'):\n  try:\n    for i in range(30000): os.close(os.open(f'{d}/{i}', os.O_CREAT))\n    print('NO END')\n  except OSError as e: print(e.strerror)"
    text = box.text(code, limits=replace(LONG, workspace_files=5000))
    assert text.count("No space") == 2


def test_size_of_the_workspace_follows_the_memory(box: Box) -> None:
    code = "import os\nv = os.statvfs('/workspace'); print(v.f_blocks * v.f_frsize // 1048576, v.f_files)"
    assert box.text(code, limits=replace(LIMITS, memory_bytes=64 * MIB, workspace_files=77)) == "32 77"
    assert box.text(code) == "128 100000"


def test_sockets_full_of_bytes(box: Box) -> None:
    code = (
        "import socket, os, time\nkept = []\nfor c in range(40):\n  if os.fork() == 0: break\ntry:\n  while 1:\n"
        "    a, b = socket.socketpair(); kept.append((a, b)); a.setblocking(False); a.setsockopt(1, 7, 1 << 22)\n    try:\n"
        "      while 1: a.send(b'x' * 100000)\n    except BlockingIOError: pass\nexcept OSError: time.sleep(20)"
    )
    result = box.run(code, limits=LONG)
    # By cgroup the kernel may also refuse buffers, so that nothing grows and the time runs out.
    assert result.status in (Status.OUT_OF_MEMORY, Status.TIMED_OUT)
    if box.mode != "root":
        assert memory_ended(result)


def test_memory_files_without_a_cgroup(box: Box) -> None:
    code = "import os, ctypes\ntry:\n  libc = ctypes.CDLL(None, use_errno=True); fd = libc.syscall(319, b'x', 0)\n  if fd < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n  for i in range(400): os.write(fd, b'x' * 1048576)\n  print('GREW')\nexcept OSError as e: print(e.strerror)"
    result = box.run(code)
    assert "GREW" not in output(result)
    assert memory_ended(result) if box.mode == "root" else "not implemented" in output(result)


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.kill(os.getpid(), 19)",
        "import os, signal, time\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except Exception: pass\n"
        "for i in range(4): os.fork()\ntime.sleep(60)",
        "import os, time\nos.setsid() if os.fork() == 0 else None\ntime.sleep(60)",
        "while True: pass",
        "import threading\ndef spin():\n  while True: pass\nfor _ in range(8): threading.Thread(target=spin).start()",
        "import atexit, time\natexit.register(time.sleep, 60)",
        "import time\nclass A:\n  def __del__(self): time.sleep(60)\na = A()",
    ],
    ids=["stops-itself", "ignores-signals", "new-session", "spins", "spinning-threads", "exit-function", "destructor"],
)
def test_ends_at_its_time(box: Box, code: str) -> None:
    result = box.run(code, limits=replace(LIMITS, wall_time_s=0.7))
    assert (result.status, result.exit_code) == (Status.TIMED_OUT, 124)
    assert 0.7 <= result.usage.wall_time_s < 20


def test_output_without_end(box: Box) -> None:
    result = box.run("while True: print('x' * 1000)", limits=LONG)
    assert (result.status, result.exit_code) == (Status.OUTPUT_LIMIT, 137)
    assert result.stdout.truncated and len(result.stdout.content) <= LIMITS.kept_bytes + 100
    assert LIMITS.written_bytes < result.stdout.written_bytes < LIMITS.written_bytes + 4 * MIB


def test_threads_without_end(box: Box) -> None:
    code = "import threading, time, os\nn = 0\ntry:\n  while 1: threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); n += 1\nexcept RuntimeError as e: print(n < 80, e, flush=True)\nos._exit(0)"
    assert box.text(code).startswith("True can't start new thread")


def test_processes_are_counted(box: Box) -> None:
    code = "import os, time\nn = 0\nwhile 1:\n  try:\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n    n += 1\n  except OSError as e: print(n, e.strerror); break\nos._exit(0)"
    number, why = box.text(code).split(" ", 1)
    assert 55 <= int(number) <= 68 and "unavailable" in why


def test_kill_of_everybody_is_of_itself(box: Box) -> None:
    assert box.text("import os\ntry: os.kill(-1, 9)\nexcept ProcessLookupError: print('alone')") == "alone"


def test_pipe_left_open_by_nobody(box: Box) -> None:
    """The end of the pipe sits in a cycle of sockets: it never reads as ended, and nobody may wait for that."""
    result = box.run(
        "import socket\nx, y = socket.socketpair()\nsocket.send_fds(x, [b'1'], [x.fileno(), y.fileno(), 1, 2])\nprint('out')",
        limits=LONG,
    )
    assert result.status is Status.SUCCEEDED and output(result) == "out"


def test_processor_share(box: Box) -> None:
    code = (
        "import os, time\nbegun = time.time()\nfor i in range(7):\n  if os.fork() == 0: break\nend = time.time() + 1\nwhile time.time() < end: pass\n"
        "if os.getpid() == 2:\n  while 1:\n    try: os.wait()\n    except OSError: break\n"
        "  c = os.times(); print((c.user + c.system + c.children_user + c.children_system) / (time.time() - begun))"
    )
    assert float(box.text(code)) < 1.3  # of one processor, where there are two


def test_memory_full_of_files(box: Box) -> None:
    """What lies in memory files outlives the processes: pid 1 itself may find no page, and the run is still told rightly."""
    code = (
        "import os\nblock = os.urandom(1 << 20)\nfor d in ('/tmp', '/workspace'):\n  try:\n    with open(d + '/b', 'wb', buffering=0) as f:\n"
        "      for i in range(200): f.write(block)\n  except OSError as e: print(e.strerror, flush=True)\nx = []\nwhile True: x.append(bytearray(1 << 20))"
    )
    result = box.run(code, limits=replace(LONG, memory_bytes=64 * MIB))
    assert memory_ended(result) or (box.mode != "root" and "MemoryError" in output(result))


def test_pid1_that_cannot_answer_in_time_does_not_change_the_answer(box: Box) -> None:
    """Everybody forks at once and pid 1 gets no turn: the run is timed out all the same."""
    code = "import os, threading\ndef spin():\n  while True: pass\nfor _ in range(5): os.fork()\nfor _ in range(1): threading.Thread(target=spin).start()\nspin()"
    result = box.run(code, limits=SHORT)
    assert (result.status, result.exit_code) == (Status.TIMED_OUT, 124)
