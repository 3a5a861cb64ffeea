"""Runs a program that nobody has read: `python jail.py PROGRAM FOLDER SECONDS BYTES [unsafe]`. Standard library alone,
since it is a process's whole program (sandbox.py starts it).

The process locks itself in, then becomes the program. What holds it asks for no privilege and binds root as well:

- resource limits: processor time, address space, size of a file, open files;
- Landlock (Linux 6.2 and later): it reads Python and the system's libraries, and writes below FOLDER alone;
- seccomp: no processes, no threads, no sockets, no signals to others, nothing that could undo the rest;
- no capabilities, and no way to new ones.

Exits with NO_JAIL, and the reason on standard error, where the machine cannot do that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys

NO_JAIL = 97
FILE_BYTES, FILES = 1 << 24, 64

# Landlock: the same numbers on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_TRUNCATE_SINCE = 3  # the first version that also guards truncation
_SCOPES_SINCE = 6  # from here on it also knows TCP, signals and abstract sockets, which seccomp denies as well
_TCP, _SCOPES = 3, 3
_ACCESS = (1 << 15) - 1  # all that version knows, of files and folders
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14  # execute, write, read, truncate
_READ = 1 << 2 | 1 << 3
_WRITE_NULL = 1 << 1 | 1 << 2

_NO_NEW_PRIVS, _CAPBSET_DROP, _SET_SECCOMP, _FILTER = 38, 24, 22, 2
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

# What is denied, by its number on x86-64 and on 64-bit ARM; None: it does not exist there.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220), "fork": (57, None), "vfork": (58, None), "clone3": (435, 435), "execve": (59, 221),
    "execveat": (322, 281), "socket": (41, 198), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438), "ptrace": (101, 117), "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271), "prlimit64": (302, 261), "setrlimit": (160, 164), "chmod": (90, None),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "mount": (165, 40), "umount2": (166, 39),
    "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430), "mount_setattr": (442, 442),
    "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162),
    "acct": (163, 89), "quotactl": (179, 60), "syslog": (103, 116), "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "setsid": (112, 157), "setpgid": (109, 154),
    "ioctl": (16, 29),
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_FCNTL, _OWNER = (72, 25), (8, 10, 15)  # its commands that have a file send signals to a process


def main() -> None:
    program, folder, seconds, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    source = open(program, encoding="utf-8").read()
    code = compile(source, "program", "exec")  # before the walls: reading a source may look for its encoding
    os.chdir(folder)
    limit(seconds, size)
    if sys.argv[5:] != ["unsafe"]:
        try:
            lock(folder)
        except OSError as error:
            print(error, file=sys.stderr)
            os._exit(NO_JAIL)
    exec(code, {"__name__": "__main__"})


def limit(seconds: int, size: int) -> None:
    """No more than so many seconds of the processor and bytes of memory; no core dumps."""
    for what, most in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, size),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def lock(folder: str) -> None:
    """Raises OSError, with the reason, where this machine cannot."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise OSError(f"programs are contained on Linux on x86-64 and ARM, not on {sys.platform} {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _landlock(libc, folder)
    for capability in range(64):
        libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # of none left to drop, an error
    header, nothing = struct.pack("II", 0x20080522, 0), bytes(24)
    _call(libc.capset(header, nothing), "capset")
    _seccomp(libc)


def _landlock(libc: ctypes.CDLL, folder: str) -> None:
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < _TRUNCATE_SINCE:
        raise OSError("this kernel has no Landlock that guards all writing (Linux 6.2 has)")
    asked = struct.pack("Q", _ACCESS)
    if version >= _SCOPES_SINCE:
        asked = struct.pack("QQQ", _ACCESS, _TCP, _SCOPES)
    ruleset = _call(libc.syscall(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0), "Landlock")
    readable = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/lib", "/lib64", "/etc/localtime"}
    readable |= {path for path in sys.path if path}
    rules = [*((path, _READ) for path in sorted(readable)), ("/dev/urandom", _READ), ("/dev/null", _WRITE_NULL)]
    for path, access in [*rules, (folder, _ACCESS)]:
        if not os.path.exists(path):
            continue
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = access if os.path.isdir(path) else access & _OF_FILES
        _call(libc.syscall(_ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, place), 0), f"Landlock on {path}")
        os.close(place)
    _call(libc.syscall(_RESTRICT_SELF, ruleset, 0), "Landlock")
    os.close(ruleset)


def _seccomp(libc: ctypes.CDLL) -> None:
    """A filter in classic BPF: whatever is denied fails with EPERM; calls of another architecture end the process."""
    column, architecture = _MACHINES[platform.machine()]
    numbers = sorted(n for n in (pair[column] for pair in _DENIED.values()) if n is not None)
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    checks = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, _KILL), (load, 0, 0, 0)]
    if column == 0:
        checks += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, _KILL)]  # x32: the same calls by other numbers
    behind = len(numbers) + 2  # from the end of what follows to the denial
    checks += [(equal, 0, 2 + len(_OWNER), _FCNTL[column]), (load, 0, 0, 24)]  # 24: its second argument
    checks += [(equal, len(_OWNER) - i + behind - 1, 0, command) for i, command in enumerate(_OWNER)]
    checks += [(answer, 0, 0, _ALLOW)]
    checks += [(equal, len(numbers) - i, 0, n) for i, n in enumerate(numbers)]
    checks += [(answer, 0, 0, _ALLOW), (answer, 0, 0, _DENY | errno.EPERM)]
    body = b"".join(struct.pack("HBBI", *check) for check in checks)
    buffer = ctypes.create_string_buffer(body, len(body))
    program = struct.pack("HxxxxxxQ", len(checks), ctypes.addressof(buffer))
    _call(libc.prctl(_SET_SECCOMP, _FILTER, program, 0, 0), "seccomp")


def _call(result: int, what: str) -> int:
    if result < 0:
        raise OSError(f"{what} is refused here ({os.strerror(ctypes.get_errno())})")
    return result


if __name__ == "__main__":
    main()
