"""Which system calls a child of the fork server may make: a BPF program, written here, loaded by prctl.

The list says what is denied, since what scientific code calls is long and changes. Calls newer than the list
answer ENOSYS, as an older kernel would. Numbers: Linux 6.18, arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h (aarch64). From 424 on all architectures share one numbering.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

# name: (x86-64, aarch64); -1 where the architecture has no such call.
DENIED: dict[str, tuple[int, int]] = {
    # other processes and the kernel's own doors
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "iopl": (172, -1),
    "ioperm": (173, -1),
    "modify_ldt": (154, -1),
    "uselib": (134, -1),
    "personality": (135, 92),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "lookup_dcookie": (212, 18),
    # memory that no limit of the process counts
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_secret": (447, 447),
    "io_setup": (206, 0),
}
# A worker is one process for good: it starts no other and becomes no other program.
DENIED_TO_WORKERS: dict[str, tuple[int, int]] = {
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "memfd_create": (319, 279),
}
SPECIAL: dict[str, tuple[int, int]] = {"clone": (56, 220), "clone3": (435, 435), "socket": (41, 198)}
NEWEST_KNOWN = 462

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE_THREAD = 0x10000
_CLONE_NEW_ANYTHING = 0x7E020080  # NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_EPERM, _ENOSYS = 1, 38
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = (
    0,
    4,
    16,
)  # offsets in struct seccomp_data; the low half of a 64-bit argument


def supported() -> bool:
    """Is there a table for this machine?"""
    return platform.system() == "Linux" and platform.machine() in _ARCHITECTURES


def program(*, worker: bool, families: tuple[int, ...], machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Args:
        worker: deny new processes and programs too.
        families: the address families for which a socket may be made. Only some are bound to a network
            namespace (a VM's vsock is not), so all others are denied.
        machine: `x86_64` or `aarch64`; this machine's by default.
    """
    column, architecture = _ARCHITECTURES[machine or platform.machine()]
    denied = DENIED | (DENIED_TO_WORKERS if worker else {})
    code: list[tuple[int, int, int, int]] = []

    def put(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> None:
        code.append((operation, if_true, if_false, value))

    put(_LOAD, _ARCH)
    put(_JUMP_EQUAL, architecture, 1, 0)
    put(_RETURN, _KILL)  # 32-bit calls have other numbers and would pass below
    put(_LOAD, _NUMBER)
    put(_JUMP_GREATER_EQUAL, NEWEST_KNOWN + 1, 0, 1)  # the x32 numbers (from 0x40000000) too
    put(_RETURN, _ERRNO | _ENOSYS)
    for numbers in denied.values():
        if numbers[column] >= 0:
            put(_JUMP_EQUAL, numbers[column], 0, 1)
            put(_RETURN, _ERRNO | _EPERM)
    # clone3 hides its flags behind a pointer; the C library falls back to clone.
    put(_JUMP_EQUAL, SPECIAL["clone3"][column], 0, 1)
    put(_RETURN, _ERRNO | _ENOSYS)
    put(_JUMP_EQUAL, SPECIAL["clone"][column], 0, 6 if worker else 4)
    put(_LOAD, _FIRST_ARGUMENT)
    put(_JUMP_ANY_BIT, _CLONE_NEW_ANYTHING, 0, 1)
    put(_RETURN, _ERRNO | _EPERM)
    if worker:
        put(_JUMP_ANY_BIT, _CLONE_THREAD, 1, 0)
        put(_RETURN, _ERRNO | _EPERM)
    put(_RETURN, _ALLOW)
    put(_JUMP_EQUAL, SPECIAL["socket"][column], 0, len(families) + 3 if families else 1)
    if families:
        put(_LOAD, _FIRST_ARGUMENT)
        for position, family in enumerate(families):
            put(_JUMP_EQUAL, family, len(families) - position, 0)
        put(_RETURN, _ERRNO | _EPERM)
        put(_RETURN, _ALLOW)
    else:
        put(_RETURN, _ERRNO | _EPERM)
    put(_RETURN, _ALLOW)
    return b"".join(struct.pack("<HBBI", *line) for line in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def load(filter_program: bytes) -> None:
    """Hold this process, its threads to come and its children to the filter, for good.

    Raises:
        OSError: the kernel has no seccomp filters.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(filter_program, len(filter_program))
    described = _Program(len(filter_program) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(described), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
