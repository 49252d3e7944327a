"""Reaching other processes, and the namespaces of others."""

import ctypes, errno, os, signal

from attempt import any_of, attempt, checked, LIBC, read, syscall


@attempt
def look_into_init(world):
    owner = os.stat("/proc/1/environ").st_uid
    if owner != 65534:
        return f"the init's files belong to {owner}"
    return any_of(*(lambda name=name: read(f"/proc/1/{name}") for name in ["environ", "maps", "mem"]))


@attempt
def command_line_of_init(world):
    with open("/proc/1/cmdline", "rb") as file:
        text = file.read().strip(b"\0")
    return None if text == b"init" else f"the init's command line is {text[:80]!r}"


@attempt
def trace_init(world):
    return any_of(
        lambda: f"attached {checked(LIBC.ptrace(16, 1, None, None))}",
        lambda: f"seized {checked(LIBC.ptrace(0x4206, 1, None, None))}",
    )


@attempt
def take_files_of_init(world):
    init = syscall((434, 434), 1, 0)
    return any_of(*(lambda n=n: f"took {syscall((438, 438), init, n, 0)}" for n in range(8)))


@attempt
def read_memory_of_init(world):
    buffer = ctypes.create_string_buffer(16)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(buffer), 16)
    remote = (ctypes.c_void_p * 2)(0x400000, 16)
    count = syscall((310, 270), 1, local, 1, remote, 1, 0)
    return f"read {count} bytes"


@attempt
def kill_init(world):
    for number in [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP]:
        os.kill(1, number)
    return None


@attempt
def see_processes_of_others(world):
    for name in os.listdir("/proc"):
        if name.isdigit():
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if b"86399" in file.read():
                    return f"process {name} is the host's"


@attempt
def guess_process_ids(world):
    for pid in range(2, 5000):
        if pid == os.getpid():
            continue
        try:
            os.kill(pid, 0)
            return f"process {pid} can be signalled"
        except PermissionError:
            return f"process {pid} is there"
        except ProcessLookupError:
            pass


@attempt
def signal_all(world):
    """Everybody that can be seen, but nobody is hit: signal 0."""
    os.kill(-1, 0)
    return "somebody else can be signalled"


@attempt
def overwrite_program(world):
    def one(path):
        os.close(os.open(path, os.O_WRONLY))
        return f"{path} can be written"

    return any_of(*(lambda p=p: one(p) for p in ["/proc/1/exe", "/proc/self/exe", world["launcher"]]))


@attempt
def namespaces_of_the_host(world):
    same = [name for name, link in world["namespaces"].items()
            if os.readlink(f"/proc/self/ns/{name}") == link]
    return f"shared with the host: {same}" if same else None


@attempt
def nested_user_namespace(world):
    def by_clone():
        pid = syscall((56, 220), 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            os._exit(0)
        return "a nested user namespace by clone"

    def by_unshare():
        checked(LIBC.unshare(0x10000000))
        return "a nested user namespace by unshare"

    return any_of(by_unshare, by_clone)


@attempt
def clone_with_namespaces(world):
    number = (56, 220)
    for flag in [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x2000000, 0x4000000, 0x8000000]:
        try:
            pid = syscall(number, flag | signal.SIGCHLD, 0, 0, 0, 0)
        except OSError:
            continue
        if pid == 0:
            os._exit(0)
        return f"clone took {flag:x}"
    result = LIBC.syscall(435, None, 0)
    code = ctypes.get_errno()
    return None if result == -1 and code == errno.ENOSYS else f"clone3 is there: {code}"


@attempt
def join_namespaces(world):
    def one(name):
        file = os.open(f"/proc/1/ns/{name}", os.O_RDONLY)
        checked(LIBC.setns(file, 0))
        return f"joined {name}"

    return any_of(*(lambda name=name: one(name) for name in ["mnt", "pid", "net", "user", "uts"]))


@attempt
def ids_of_the_host(world):
    with open("/proc/self/uid_map") as file:
        first = file.readline().split()
    return f"user 0 is the host's: {first}" if first[:2] == ["0", "0"] else None
