"""What the kernel tells of the host and lets set."""

import ctypes, os, socket, struct, sys

from attempt import any_of, attempt, checked, LIBC, mount, read, syscall


def is_null(file):
    return os.fstat(file).st_rdev == os.makedev(1, 3)


@attempt
def read_keys(world):
    # There may be no keys to be seen just now: whether they could be is what counts.
    def one(path):
        file = os.open(path, os.O_RDONLY)
        return None if is_null(file) else f"{path} can be read"

    return any_of(*(lambda p=p: one(p) for p in ["/proc/keys", "/proc/key-users"]))


@attempt
def read_kernel_memory(world):
    return any_of(*(lambda p=p: read(p) for p in ["/proc/kcore", "/proc/timer_list", "/dev/mem", "/dev/kmsg"]))


@attempt
def press_sysrq(world):
    file = os.open("/proc/sysrq-trigger", os.O_WRONLY)
    return None if is_null(file) else "sysrq can be pressed"


@attempt
def set_kernel_parameters(world):
    for folder in ["/proc/sys", "/proc/bus", "/proc/fs", "/proc/irq"]:
        if os.path.exists(folder) and not os.statvfs(folder).f_flag & os.ST_RDONLY:
            return f"{folder} is not read-only"

    def one(name):
        os.close(os.open(f"/proc/sys/{name}", os.O_WRONLY))
        return f"{name} can be set"

    names = ["kernel/core_pattern", "kernel/modprobe", "kernel/hostname", "vm/overcommit_memory",
             "net/ipv4/ip_forward", "fs/suid_dumpable", "kernel/shmmax"]
    return any_of(*(lambda name=name: one(name) for name in names))


@attempt
def release_agent(world):
    def one(path):
        os.close(os.open(path, os.O_WRONLY))
        return f"{path} can be written"

    def by_mount(kind, data):
        mount(b"cgroup", b"/tmp", kind, 0, data)
        return one("/tmp/release_agent")

    tries = [lambda: by_mount(b"cgroup", b"memory"), lambda: by_mount(b"cgroup", b"none,name=x")]
    for folder, _, names in os.walk("/sys/fs/cgroup"):
        tries += [lambda p=f"{folder}/{name}": one(p) for name in names]
    return any_of(*tries)


@attempt
def paths_of_control_groups(world):
    with open("/proc/self/cgroup") as file:
        paths = {line.rstrip("\n").split(":", 2)[2] for line in file}
    return f"control groups of the host: {sorted(paths)}" if paths - {"/"} else None


@attempt
def set_the_clock(world):
    adjust = ctypes.create_string_buffer(struct.pack("I", 0x0100) + bytes(508))
    return any_of(
        lambda: f"adjtimex gave {syscall((159, 171), adjust)}",
        lambda: f"clock_adjtime gave {syscall((305, 266), 0, adjust)}",
        lambda: f"settimeofday gave {syscall((164, 170), None, bytes(8))}",
    )


@attempt
def set_the_host_name(world):
    socket.sethostname("escaped")
    return "set the host name"


@attempt
def host_name_of_the_host(world):
    return None if os.uname().nodename == "inside" else f"the host is {os.uname().nodename}"


@attempt
def memory_of_others(world):
    return any_of(
        lambda: f"segment {checked(LIBC.shmget(0x5EC0DE, 0, 0))}",
        lambda: f"queue {checked(LIBC.msgget(0x5EC0DE, 0))}",
    )


@attempt
def environment_of_launcher(world):
    with open("/proc/self/environ", "rb") as file:
        return "the launcher's environment is seen" if b"canary" in file.read() else None


@attempt
def input_of_launcher(world):
    text = sys.stdin.read()
    return f"standard input says {text[:20]!r}" if text else None
