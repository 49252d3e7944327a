"""Gaining rights: by programs, capabilities, system calls and keys."""

import errno, fcntl, os, struct, subprocess

from attempt import any_of, attempt, checked, IS_X86, LIBC, status, syscall


@attempt
def run_setuid_programs(world):
    own = os.getuid()
    subprocess.run(["cp", "/usr/bin/id", "/tmp/id"], check=True)
    os.chmod("/tmp/id", 0o6755)
    for program in ["/tmp/id", "/vol/id-of-root"]:
        if os.path.exists(program):
            uid = int(subprocess.run([program, "-u"], capture_output=True, check=True).stdout)
            if uid != own:
                return f"{program} runs as {uid}"


@attempt
def give_file_capabilities(world):
    subprocess.run(["cp", "/usr/bin/cat", "/tmp/cat"], check=True)
    os.setxattr("/tmp/cat", "security.capability", struct.pack("<5I", 0x2000001, ~0 & 0xFFFFFFFF, 0, 0, 0))
    line = subprocess.run(["/tmp/cat", "/proc/self/status"], capture_output=True, text=True).stdout
    caps = int(line.split("CapEff:\t")[1].split("\n")[0], 16)
    return f"a file gave {caps:x}" if caps else None


@attempt
def capabilities(world):
    found = {name: status()[name] for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"]}
    return f"{found}" if any(int(value, 16) for value in found.values()) else None


@attempt
def capabilities_of_root(world):
    """What user 0 has beyond what a package manager needs."""
    known = sum(1 << bit for bit in [0, 1, 3, 4, 5, 6, 7, 10, 18, 31])
    found = {name: status()[name] for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]}
    return f"{found}" if any(int(it, 16) & ~known for it in found.values()) else None


@attempt
def capabilities_of_init(world):
    caps = int(status(1)["CapEff"], 16)
    return f"the init has {caps:x}" if caps & ~(1 << 5 | 1 << 6 | 1 << 7 | 1 << 8) else None


@attempt
def bounding_set(world):
    caps = int(status()["CapBnd"], 16)
    return f"{caps:x} may be gained" if caps else None


@attempt
def raise_ambient_capabilities(world):
    bits = checked(LIBC.prctl(27, 0, 0, 0, 0))
    if bits & 0b1110_1010 != 0b1110_1010:
        return f"the secure bits are {bits:b}"
    checked(LIBC.prctl(47, 2, 21, 0, 0))
    return "raised an ambient capability"


@attempt
def no_new_privileges(world):
    return None if status()["NoNewPrivs"] == "1" else "new privileges may be gained"


@attempt
def filter_of_system_calls(world):
    return None if status()["Seccomp"] == "2" else "there is no filter"


@attempt
def load_kernel_modules(world):
    return any_of(
        lambda: f"init_module gave {syscall((175, 105), b'', 0, b'')}",
        lambda: f"finit_module gave {syscall((313, 273), 0, b'', 0)}",
        lambda: f"delete_module gave {syscall((176, 106), b'escape', 0)}",
    )


@attempt
def rare_system_calls(world):
    """Those that enter large parts of the kernel; a good refusal is EPERM, from the filter."""
    numbers = {
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "io_uring_setup": (425, 425),
        "kexec_load": (246, 104),
        "reboot": (169, 142),
        "swapon": (167, 224),
        "acct": (163, 89),
        "quotactl": (179, 60),
        "syslog": (103, 116),
        "fanotify_init": (300, 262),
        "lookup_dcookie": (212, 18),
    }
    for name, number in numbers.items():
        try:
            syscall(number, -1, 0, 0, 0, 0)
        except OSError as error:
            if error.errno != errno.EPERM:
                return f"{name} says {errno.errorcode[error.errno]}"
            continue
        return f"{name} works"


@attempt
def foreign_system_calls(world):
    """The x32 numbers of x86-64, which a filter may forget."""
    if not IS_X86:
        return None
    result = LIBC.syscall(0x40000000 + 39)
    return f"x32 getpid gave {result}" if result != -1 else None


@attempt
def keyrings(world):
    add_key, keyctl = (248, 217), (250, 219)
    return any_of(
        lambda: f"the session's key is {syscall(keyctl, 10, -3, b'user', b'escape-canary', 0)}",
        lambda: f"made a key {syscall(add_key, b'user', b'escape', b'x', 1, -2)}",
    )


@attempt
def key_of_the_session(world):
    keyctl = (250, 219)
    return f"the session's key is {syscall(keyctl, 10, -3, b'user', b'escape-canary', 0)}"


@attempt
def personality(world):
    checked(LIBC.personality(0x0040000))
    return "addresses are no longer random"


@attempt
def type_into_terminal(world):
    try:
        fcntl.ioctl(0, 0x5412, b"x")
    except OSError as error:
        return None if error.errno == errno.EPERM else f"TIOCSTI says {error.strerror}"
    return "typed into a terminal"


@attempt
def session_of_others(world):
    return None if os.getsid(0) == os.getpid() else f"the session is {os.getsid(0)}"
