"""The seccomp program of a slot, assembled from a table: an allow-list, with checks of arguments where they matter.

Everything that is not named answers ENOSYS, which is what libraries probe for; what is known and refused, EPERM.
Each further call that takes a pid must be checked in a slot whose pid 1 shares the uid with user code.

Source: Docker's default profile (moby default.json) less what no runtime of ours needs.
"""

from __future__ import annotations

import errno
import json
import struct
from dataclasses import dataclass
from importlib import resources


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ALLOWED = _words("""accept accept4 access alarm arch_prctl bind brk cachestat capget capset chdir chmod chown clock_getres
clock_gettime clock_nanosleep close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync
fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstatfs fsync ftruncate futex futex_requeue futex_wait
futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64 getegid geteuid getgid getgroups getitimer
get_mempolicy getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit
get_robust_list getrusage getsid getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch
inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents ioprio_get ioprio_set
io_setup io_submit kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lgetxattr link linkat
listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise map_shadow_stack membarrier memfd_create mincore
mkdir mkdirat mlock mlock2 mlockall mmap mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep newfstatat open openat
openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll prctl pread64
preadv preadv2 prlimit64 pselect6 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recvfrom recvmmsg
recvmsg removexattr rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sched_getaffinity sched_getattr
sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield select semctl semget semop semtimedop
sendfile sendmmsg sendmsg sendto setfsgid setfsuid setgid setgroups setitimer setpgid setpriority setregid setresgid
setresuid setreuid setrlimit set_robust_list setsid setsockopt set_tid_address setuid setxattr shmat shmctl shmdt
shmget shutdown sigaltstack signalfd signalfd4 socketpair splice stat statfs statx symlink symlinkat sync_file_range
sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
timerfd_gettime timerfd_settime times tkill truncate umask uname unlink unlinkat utime utimensat utimes vfork vmsplice
wait4 waitid write writev""")

DENIED = _words("""acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init fanotify_mark
finit_module fsconfig fsmount fsopen fspick init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl
lookup_dcookie mbind memfd_secret migrate_pages mknod mknodat modify_ldt mount mount_setattr move_mount move_pages
name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root
process_madvise process_mrelease process_vm_readv process_vm_writev ptrace quotactl quotactl_fd reboot request_key
seccomp setdomainname sethostname set_mempolicy setns settimeofday swapoff swapon sync syncfs sysfs syslog umount2
uselib userfaultfd ustat vhangup _sysctl""")

_MACHINES = {"x86_64": 0xC000003E}
_X32 = 0x40000000

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
ALLOW, KILL = _ALLOW, _KILL
EPERM, ENOSYS = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
_NO_FAMILY, _DONE = _ERRNO | errno.EAFNOSUPPORT, _ERRNO

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _JUMP, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x05, 0x06
_NUMBER_AT, _MACHINE_AT = 0, 4

_CLONE_NEW = 0x7E020000  # NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; NEWTIME exists in clone3 only
_NEWNET_NEWIPC = 0x48000000  # pid 1 of a slot may; the kernel's capability check refuses user code
_AF_LOCAL_INET_INET6, _AF_NETLINK = (1, 2, 10), 16  # AF_VSOCK is not confined by namespaces
_TIOCSTI, _TIOCLINUX, _FIOSETOWN, _SIOCSPGRP = 0x5412, 0x541C, 0x8901, 0x8902
_TIOCSETD = 0x5423  # another line discipline: the kernel would load a module for it
_F_SETOWN, _F_SETOWN_EX, _F_SETPIPE_SZ = 8, 15, 1031
_RLIMIT_CORE, _PRIO_PROCESS, _IOPRIO_PROCESS = 4, 0, 1
_SOL_SOCKET, _SO_SNDBUF, _SO_RCVBUF = 1, 7, 8

_BY_PID = _words("""kill tkill rt_sigqueueinfo pidfd_open prlimit64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler""")
_WITHOUT_CGROUPS = ("memfd_create", "shmget", "semget", "msgget")  # memory that no process's figures show

Instruction = bytes


def _ins(code: int, value: int, if_true: int = 0, if_false: int = 0) -> Instruction:
    return struct.pack("<HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _argument(index: int) -> Instruction:
    """Load the low word: the kernel truncates pid_t and int in the same way."""
    return _ins(_LOAD, 16 + 8 * index)


_OK = [_ins(_RETURN, _ALLOW)]


def _refuse(argument: int, value: int, answer: int = EPERM) -> list[Instruction]:
    return [_argument(argument), _ins(_EQUAL, value, 0, 1), _ins(_RETURN, answer)]


def _only(argument: int, value: int) -> list[Instruction]:
    return [_argument(argument), _ins(_EQUAL, value, 1, 0), _ins(_RETURN, EPERM)]


@dataclass(frozen=True)
class Walls:
    """Which walls beyond the allow-list are needed."""

    shared_uid: bool
    """User code has pid 1's uid: every call that takes a pid is checked for 1."""
    cgroups: bool
    """Memory is held by cgroup; without, memory outside of processes is refused."""


def _socket_checks() -> list[Instruction]:
    block = [_argument(0)]
    for family in _AF_LOCAL_INET_INET6:
        block += [_ins(_EQUAL, family, 0, 1), _ins(_RETURN, _ALLOW)]
    netlink = [_ins(_EQUAL, _AF_NETLINK, 0, 3), _argument(2), _ins(_EQUAL, 0, 0, 1), _ins(_RETURN, _ALLOW)]
    return [*block, *netlink, _ins(_RETURN, _NO_FAMILY)]


def _ioctl_checks(walls: Walls) -> list[Instruction]:
    refused = (_TIOCSTI, _TIOCLINUX, _TIOCSETD) + ((_FIOSETOWN, _SIOCSPGRP) if walls.shared_uid else ())
    block = [_argument(1)]
    for command in refused:
        block += [_ins(_EQUAL, command, 0, 1), _ins(_RETURN, EPERM)]
    return block + _OK


def _basic_checks(walls: Walls) -> dict[str, list[Instruction]]:
    core = [_argument(1), _ins(_EQUAL, _RLIMIT_CORE, 0, 4), _argument(2), _ins(_EQUAL, 0, 0, 1)]
    return {
        "clone": [_argument(0), _ins(_ANY_BIT, _CLONE_NEW, 0, 1), _ins(_RETURN, EPERM), *_OK],
        "unshare": [_argument(0), _ins(_ANY_BIT, ~_NEWNET_NEWIPC, 0, 1), _ins(_RETURN, EPERM), *_OK],
        "socket": _socket_checks(),
        "socketpair": _socket_checks(),  # any other family is a module that the kernel would load
        "ioctl": _ioctl_checks(walls),
        # RLIMIT_CORE stays at 1: at 0 a core_pattern pipe would be started.
        "prlimit64": [*core, _ins(_RETURN, _ALLOW), _ins(_RETURN, EPERM), *_OK],
        "setrlimit": _refuse(0, _RLIMIT_CORE) + _OK,
        "fcntl": list(_OK),
        "pidfd_open": _refuse(0, 1) + _OK,
    }


def _guard_pid1(checks: dict[str, list[Instruction]]) -> None:
    """Equality is complete: pid 1 is always number 1 inside, has one thread, and is alone there."""
    for name in _BY_PID:
        checks[name] = _refuse(0, 1) + checks.get(name, _OK)
    for name in ("tgkill", "rt_tgsigqueueinfo"):
        checks[name] = _refuse(0, 1) + _refuse(1, 1) + _OK
    checks["setpriority"] = _only(0, _PRIO_PROCESS) + _refuse(1, 1) + _OK  # PRIO_USER would reach pid 1
    checks["ioprio_set"] = _only(0, _IOPRIO_PROCESS) + _refuse(1, 1) + _OK
    owner = [_argument(1), _ins(_EQUAL, _F_SETOWN, 0, 3), *_refuse(2, 1)]
    checks["fcntl"] = owner + _refuse(1, _F_SETOWN_EX) + checks["fcntl"]


def _bound_memory(checks: dict[str, list[Instruction]]) -> None:
    """Without cgroups: no memory that the watchdog cannot see, no way out of the limits it relies on."""
    for name in _WITHOUT_CGROUPS:
        checks[name] = [_ins(_RETURN, ENOSYS)]
    buffers = [_argument(1), _ins(_EQUAL, _SOL_SOCKET, 0, 4), _argument(2)]
    # "Done", unchanged: a socket keeps its default buffer, so that counting sockets bounds their memory.
    buffers += [_ins(_EQUAL, _SO_SNDBUF, 1, 0), _ins(_EQUAL, _SO_RCVBUF, 0, 1), _ins(_RETURN, _DONE)]
    checks["setsockopt"] = buffers + _OK
    checks["sched_setaffinity"] = [_ins(_RETURN, EPERM)]  # affinity is the CPU limit here
    checks["fcntl"] = _refuse(1, _F_SETPIPE_SZ) + checks["fcntl"]


def _checks(walls: Walls) -> dict[str, list[Instruction]]:
    checks = _basic_checks(walls)
    if walls.shared_uid:
        _guard_pid1(checks)
    if not walls.cgroups:
        _bound_memory(checks)
    return checks


def numbers(machine: str) -> dict[str, int]:
    """System call numbers by name."""
    table = json.loads(resources.files(__package__).joinpath("syscalls.json").read_text())
    return dict(table[machine])


def assemble(walls: Walls, machine: str) -> bytes:
    """The program as raw instructions.

    Raises:
        OSError: No table of this machine's system calls is at hand.
    """
    if machine not in _MACHINES:
        raise OSError(f"no seccomp table for {machine}: sandboxes need x86_64")
    table = numbers(machine)
    checks = {name: block for name, block in _checks(walls).items() if name in table}
    verdicts: dict[int, int | str] = {table[name]: _ALLOW for name in ALLOWED if name in table}
    verdicts |= {table[name]: EPERM for name in DENIED if name in table}
    verdicts |= {table[name]: name for name in checks}
    head = [_ins(_LOAD, _MACHINE_AT), _ins(_EQUAL, _MACHINES[machine], 1, 0), _ins(_RETURN, _KILL)]
    head.append(_ins(_LOAD, _NUMBER_AT))
    if machine == "x86_64":
        head += [_ins(_AT_LEAST, _X32, 0, 1), _ins(_RETURN, _KILL)]
    return b"".join(_link(head, _ranges(verdicts), checks))


def _ranges(verdicts: dict[int, int | str]) -> list[tuple[int, int | str]]:
    """(first number, verdict) for each stretch of equal verdicts, highest first."""
    sequence = [verdicts.get(number, ENOSYS) for number in range(max(verdicts) + 1)] + [ENOSYS]
    starts = [number for number in range(len(sequence)) if not number or sequence[number] != sequence[number - 1]]
    return [(number, sequence[number]) for number in reversed(starts)]


def _link(
    head: list[Instruction], ranges: list[tuple[int, int | str]], checks: dict[str, list[Instruction]]
) -> list[Instruction]:
    program = list(head)
    jumps: list[tuple[int, str]] = []
    for start, verdict in ranges:
        if start:
            program.append(_ins(_AT_LEAST, start, 0, 1))
        if isinstance(verdict, str):
            jumps.append((len(program), verdict))
        program.append(_ins(_RETURN, 0 if isinstance(verdict, str) else verdict))
    for name, block in checks.items():
        for position, wanted in jumps:
            if wanted == name:
                program[position] = _ins(_JUMP, len(program) - position - 1)
        program += block
    return program


def simulate(program: bytes, machine: str, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the program answers to one system call; for tests."""
    data = struct.pack("<iIQ6Q", number, _MACHINES.get(machine, 0), 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    position = accumulator = 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("<HBBI", program, 8 * position)
        position += 1
        if code == _RETURN:
            return int(value)
        if code == _LOAD:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == _JUMP:
            position += value
        else:
            holds = {_EQUAL: accumulator == value, _AT_LEAST: accumulator >= value, _ANY_BIT: bool(accumulator & value)}
            position += if_true if holds[code] else if_false
