"""Attempts to get out of a sandbox, or to disturb others from within.

`attempt.py NAME WORLD`: makes one attempt; WORLD is JSON with what to aim at. The last line of the
output says how it went: `held`, or `through`, each with what was seen. A refusal by the system
(OSError) counts as held. An attempt that gets through does no harm: it opens, but does not write;
it signals with 0; it sets the clock on by nothing.
"""

import ctypes, errno, fcntl, json, os, platform, resource, signal, socket, stat, struct, subprocess
import sys, time

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
IS_X86 = platform.machine() == "x86_64"
ATTEMPTS = {}


def attempt(function):
    ATTEMPTS[function.__name__] = function
    return function


def checked(result):
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def syscall(number, *arguments):
    """A system call by its number on x86-64, and that of the other architectures."""
    return checked(LIBC.syscall(number[0 if IS_X86 else 1], *arguments))


def any_of(*tries):
    """What the first that gets through says; the last refusal if none does."""
    refusal = None
    for it in tries:
        try:
            if (found := it()) is not None:
                return found
        except OSError as error:
            refusal = error
    if refusal:
        raise refusal


def read(path):
    with open(path, "rb") as file:
        text = file.read(4096)
    return f"{path} says {text[:60]!r}" if text else None


def status(pid="self"):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


# Files of the host.


@attempt
def read_by_path(world):
    return read(world["canary"])


@attempt
def read_secrets_of_the_host(world):
    names = ["/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/root/.ssh", "/root/.bashrc"]
    return any_of(*(lambda name=name: read(name) for name in names))


@attempt
def list_homes(world):
    found = [name for name in os.listdir("/home") if name != "user"]
    return f"homes: {found}" if found else None


@attempt
def read_by_symlink(world):
    os.symlink(world["canary"], "/tmp/link")
    return read("/tmp/link")


@attempt
def read_by_many_dots(world):
    return read("../" * 40 + world["canary"])


@attempt
def read_by_root_of_init(world):
    return read("/proc/1/root" + world["canary"])


@attempt
def read_by_cwd_of_init(world):
    return any_of(
        lambda: read("/proc/1/cwd" + world["canary"]),
        lambda: read("/proc/1/cwd/" + "../" * 40 + world["canary"]),
    )


@attempt
def read_by_files_of_init(world):
    names = os.listdir("/proc/1/fd")
    return f"the init has {names}" if names else None


@attempt
def read_behind_the_root(world):
    return any_of(lambda: read("/.." + world["canary"]), lambda: read("/../.." + world["canary"]))


@attempt
def use_files_left_open(world):
    for number in range(3, 1024):
        try:
            if stat.S_ISDIR(os.fstat(number).st_mode):
                os.close(os.open("canary", os.O_RDONLY, dir_fd=number))
                return f"descriptor {number} leads to the host"
        except OSError:
            pass


@attempt
def open_by_handle(world):
    handle = ctypes.create_string_buffer(struct.pack("Ii", 120, 0) + bytes(120))
    mount = ctypes.c_int()
    root = os.open("/", os.O_RDONLY)
    syscall((303, 264), root, b"", handle, ctypes.byref(mount), 0x1000)
    return f"opened {syscall((304, 265), root, handle, os.O_RDONLY)} by a handle"


@attempt
def leave_a_chroot(world):
    above = os.open("/", os.O_RDONLY)
    os.mkdir("/tmp/jail")
    os.chroot("/tmp/jail")
    os.fchdir(above)
    os.chdir("../" * 40)
    os.chroot(".")
    return read(world["canary"])


@attempt
def read_by_link_in_volume(world):
    return any_of(lambda: read("/vol/link"), lambda: read("/vol/up" + world["canary"]))


@attempt
def read_what_another_id_owns(world):
    return read("/vol/of-user-1000")


@attempt
def read_by_links_of_layers(world):
    names = ["/hole/canary", "/link", "/tmp/canary", "/proc/canary", "/dev/canary"]
    return any_of(*(lambda name=name: read(name) for name in names))


# Mounts.


def mount(source, target, kind, flags=0, data=None):
    return checked(LIBC.mount(source, target, kind, flags, data))


@attempt
def mount_file_systems(world):
    def one(kind):
        mount(kind, b"/tmp", kind)
        return f"mounted {kind}"

    kinds = [b"tmpfs", b"proc", b"sysfs", b"cgroup2", b"devtmpfs", b"debugfs", b"securityfs"]
    return any_of(*(lambda kind=kind: one(kind) for kind in kinds))


@attempt
def bind_mount(world):
    mount(b"/proc/1/root", b"/tmp", None, 4096 | 16384)
    return "bound a folder"


@attempt
def remount_writable(world):
    def one(path):
        mount(None, path, None, 32 | 4096)
        return f"remounted {path}"

    return any_of(lambda: one(b"/usr"), lambda: one(b"/proc/sys"), lambda: one(b"/dev"))


@attempt
def unmount_masks(world):
    def one(path):
        checked(LIBC.umount2(path, 2))
        return f"unmounted {path}"

    return any_of(*(lambda p=p: one(p) for p in [b"/proc/sys", b"/proc/keys", b"/dev", b"/"]))


@attempt
def pivot_root(world):
    syscall((155, 41), b".", b".")
    return "changed the root"


@attempt
def new_mount_calls(world):
    return any_of(
        lambda: f"fsopen gave {syscall((430, 430), b'tmpfs', 0)}",
        lambda: f"open_tree gave {syscall((428, 428), -100, b'/', 1)}",
        lambda: f"mount_setattr gave {syscall((442, 442), -100, b'/', 0, bytes(32), 32)}",
    )


@attempt
def every_mount_forbids_setuid(world):
    with open("/proc/self/mountinfo") as file:
        bad = [line.split()[4] for line in file if "nosuid" not in line.split()[5].split(",")]
    return f"setuid counts in {bad}" if bad else None


@attempt
def every_mount_forbids_devices(world):
    def is_dev(path):
        return path == "/dev" or (path.startswith("/dev/") and path != "/dev/shm")

    def masks(path):
        return stat.S_ISCHR(os.lstat(path).st_mode) and os.lstat(path).st_rdev == os.makedev(1, 3)

    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    bad = [it[4] for it in lines if "nodev" not in it[5].split(",") and not is_dev(it[4])]
    bad = [path for path in bad if not masks(path)]
    return f"devices count in {bad}" if bad else None


# Devices.


@attempt
def find_devices(world):
    known = {"fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    found = sorted(set(os.listdir("/dev")) - known - {"tty", "urandom", "zero"})
    return f"/dev has {found}" if found else None


@attempt
def make_device_nodes(world):
    def one(kind, major, minor):
        os.mknod("/tmp/node", kind | 0o600, os.makedev(major, minor))
        os.close(os.open("/tmp/node", os.O_RDONLY))
        return f"a node {major}:{minor} can be opened"

    return any_of(
        lambda: one(stat.S_IFCHR, 1, 1),
        lambda: one(stat.S_IFBLK, 7, 0),
        lambda: one(stat.S_IFCHR, 1, 5),
    )


@attempt
def open_device_in_volume(world):
    os.close(os.open("/vol/zero", os.O_RDONLY))
    return "a device in a volume can be opened"


@attempt
def write_to_dev(world):
    if not os.statvfs("/dev").f_flag & os.ST_RDONLY:
        return "/dev is not read-only"
    os.close(os.open("/dev/new", os.O_CREAT | os.O_WRONLY))
    return "made a file in /dev"


# Programs, capabilities, the filter.


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


# Processes.


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


# What the kernel tells and lets set.


@attempt
def read_keys(world):
    return any_of(lambda: read("/proc/keys"), lambda: read("/proc/key-users"))


@attempt
def read_kernel_memory(world):
    return any_of(*(lambda p=p: read(p) for p in ["/proc/kcore", "/proc/timer_list", "/dev/mem", "/dev/kmsg"]))


@attempt
def press_sysrq(world):
    file = os.open("/proc/sysrq-trigger", os.O_WRONLY)
    return None if os.fstat(file).st_rdev == os.makedev(1, 3) else "sysrq can be pressed"


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


# The network.


def connect(address, family=socket.AF_INET):
    with socket.socket(family) as it:
        it.settimeout(5)
        it.connect(address)
        text = it.recv(20)
    return f"{address} says {text!r}" if text else None


@attempt
def loopback_of_the_host(world):
    return any_of(
        lambda: connect(("127.0.0.1", 8080)),
        lambda: connect(("::1", 8080), socket.AF_INET6),
        lambda: connect(("::ffff:127.0.0.1", 8080), socket.AF_INET6),
    )


@attempt
def metadata_service(world):
    return connect(("169.254.169.254", 80))


@attempt
def hosts_beyond(world):
    return any_of(lambda: connect(("198.51.100.1", 80)), lambda: connect(("10.9.9.1", 80)))


@attempt
def private_hosts(world):
    return connect(("10.9.9.1", 80))


@attempt
def addresses_of_the_host(world):
    names = ["198.51.100.254", "10.9.9.254", "169.254.1.1", "192.0.0.1"]
    return any_of(*(lambda name=name: connect((name, 8080)) for name in names))


@attempt
def abstract_socket(world):
    return connect("\0escape", socket.AF_UNIX)


@attempt
def control_api(world):
    return any_of(
        lambda: connect(world["socket"], socket.AF_UNIX),
        lambda: connect(world["folder"] + "/socket", socket.AF_UNIX),
        lambda: connect(("127.0.0.1", 8080)),
        lambda: connect(("198.51.100.254", 8080)),
    )


@attempt
def raw_sockets(world):
    def one(family, kind, protocol):
        socket.socket(family, kind, protocol).close()
        return f"a socket {family}, {kind}, {protocol}"

    return any_of(
        lambda: one(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        lambda: one(socket.AF_INET6, socket.SOCK_RAW, 58),
        lambda: one(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)),
        lambda: one(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0806)),
    )


@attempt
def send_arp(world):
    frame = b"\xff" * 6 + bytes(6) + b"\x08\x06" + bytes(28)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as it:
        it.bind(("lo", 0))
        it.send(frame)
    return "sent an ARP packet"


@attempt
def rare_sockets(world):
    """Families that are kernel surface without a use; a good refusal is EPERM, from the filter."""
    for family, kind, protocol in [(38, 5, 0), (40, 1, 0), (16, 3, 12), (16, 3, 9), (31, 3, 1), (29, 3, 1)]:
        result = LIBC.socket(family, kind, protocol)
        if result != -1 or ctypes.get_errno() != errno.EPERM:
            return f"family {family}, protocol {protocol}: {errno.errorcode.get(ctypes.get_errno())}"


@attempt
def change_interfaces(world):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        request = struct.pack("16sH14x", b"lo", socket.AF_INET)
        fcntl.ioctl(it, 0x8914, request)
    return "changed an interface"


@attempt
def download_without_end(world):
    total = 0
    for _ in range(16):
        with socket.create_connection(("198.51.100.1", 80), 5) as it:
            while piece := it.recv(65536):
                total += len(piece)
    # A limit that is not there is seen here; one that is ends this process before.
    time.sleep(3)
    return f"{total} bytes came" if total > 2_000_000 else None


# Bombs. Each ends by itself at some multiple of what should stop it.


@attempt
def fork_bomb(world):
    for count in range(100):
        if os.fork() == 0:
            signal.pause()
            os._exit(0)
    return f"{count} processes"


@attempt
def thread_bomb(world):
    import threading

    try:
        for count in range(100):
            threading.Thread(target=signal.pause, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error))
    print(f"through {count} threads", flush=True)
    os._exit(0)


@attempt
def memory_bomb(world):
    pieces = []
    for _ in range(24):
        pieces.append(bytearray(os.urandom(1) * (8 << 20)))
        time.sleep(0.05)
    return f"{len(pieces) * 8} MiB of memory"


@attempt
def memory_by_files(world):
    """In /dev/shm, which counts to the memory but belongs to no process."""
    with open("/dev/shm/bomb", "wb") as file:
        for _ in range(24):
            file.write(bytes(8 << 20))
    return "192 MiB in /dev/shm"


@attempt
def file_bomb(world):
    files = []
    while len(files) < 3000:
        files.append(os.open("/dev/null", os.O_RDONLY))
    return f"{len(files)} open files"


@attempt
def core_dump(world):
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    return None if limit == (0, 0) else f"a core may have {limit} bytes"


@attempt
def fill_tmp(world):
    with open("/tmp/bomb", "wb") as file:
        for _ in range(32):
            file.write(bytes(1 << 20))
    return "32 MiB in /tmp"


@attempt
def fill_tmp_with_files(world):
    for count in range(20_000):
        os.close(os.open(f"/tmp/{count}", os.O_CREAT | os.O_WRONLY))
    return f"{count} files in /tmp"


def fill_folder():
    """Twice what the limit is. Where only accounting limits it, it is ended a moment later."""
    with open("bomb", "wb") as file:
        for _ in range(32):
            file.write(bytes(1 << 20))
        os.fsync(file.fileno())
    time.sleep(5)
    return "32 MiB on the disk"


@attempt
def fill_disk(world):
    os.chdir("/home/user")
    return fill_folder()


@attempt
def fill_disk_with_files(world):
    for count in range(20_000):
        os.close(os.open(f"/home/user/{count}", os.O_CREAT | os.O_WRONLY))
    time.sleep(5)
    return f"{count} files on the disk"


@attempt
def fill_disk_where_nobody_looks(world):
    """So deep that no path leads there, in folders that are closed."""
    os.chdir("/home/user")
    for _ in range(40):
        os.mkdir("x" * 250)
        os.chdir("x" * 250)
    above = os.open("..", os.O_RDONLY)
    found = any_of(fill_folder)
    os.chmod("x" * 250, 0, dir_fd=above)
    return found


@attempt
def fill_secrets(world):
    os.chmod("/run/secrets", 0o700)
    with open("/run/secrets/more", "wb") as file:
        file.write(bytes(1 << 20))
    return "wrote beside the secrets"


@attempt
def fill_proc(world):
    with open("/proc/self/comm", "w") as file:
        file.write("x" * 4096)
    if len(open("/proc/self/comm").read()) > 16:
        return "a name of any length"


@attempt
def huge_argv(world):
    return any_of(
        lambda: subprocess.run(["/usr/bin/true", "x" * (4 << 20)]) and "one argument of 4 MiB",
        lambda: subprocess.run(["/usr/bin/true", *["x" * 100_000] * 100]) and "10 MB of arguments",
    )


@attempt
def zombie_maker(world):
    for _ in range(40):
        if os.fork() == 0:
            for _ in range(3):
                if os.fork() == 0:
                    os._exit(0)
            os._exit(0)
        os.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        count = sum(name.isdigit() for name in os.listdir("/proc"))
        if count <= 3:
            return None
        time.sleep(0.01)
    return f"{count} processes are left"


@attempt
def daemon(world):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            null = os.open("/dev/null", os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            time.sleep(600)
        os._exit(0)
    os.wait()
    return None


@attempt
def ignore_sigterm(world):
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_IGN)
    print("ignoring", flush=True)
    time.sleep(600)


@attempt
def flood_log(world):
    for _ in range(64):
        os.write(1, (b"x" * 127 + b"\n") * 1024)
    return None


@attempt
def flood_without_newline(world):
    for _ in range(64):
        os.write(1, b"x" * (128 << 10))
    os.write(1, b"\n")
    return None


@attempt
def burn(world):
    print("burning", flush=True)
    time.sleep(600)


@attempt
def oom_score(world):
    with open("/proc/self/oom_score_adj") as file:
        score = int(file.read())
    if score != 500:
        return f"the score is {score}"
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")
    return "became the last victim"


# What is shared with others.


@attempt
def write_to_system_folders(world):
    def one(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        return None if world["usr_is_private"] else f"{path} can be written"

    if not world["usr_is_private"] and not os.statvfs("/usr").f_flag & os.ST_RDONLY:
        return "/usr is not read-only"
    return any_of(lambda: one("/usr/bin/escape-was-here"), lambda: one("/usr/lib/escape-was-here"))


@attempt
def write_to_read_only_mount(world):
    with open("/frozen/file", "a") as file:
        file.write("escape was here")
    return "wrote to a read-only mount"


@attempt
def write_to_layers(world):
    with open("/shared/file", "a") as file:
        file.write("escape was here")
    os.chmod("/shared/file", 0o777)
    os.rename("/shared/file", "/shared/other")
    os.unlink("/shared/gone")
    os.rmdir("/shared/folder")
    os.link("/shared/other", "/shared/link")
    return None


@attempt
def write_by_links_of_layers(world):
    def one(path):
        with open(path, "a") as file:
            file.write("escape was here")

    for path in ["/hole/new", "/hole-file", "/hole/canary"]:
        try:
            one(path)
        except OSError:
            pass


@attempt
def secrets_of_others(world):
    found = [path for path in ["/run/secrets", "/run/secrets/token"] if os.path.exists(path)]
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            with open(f"/proc/{name}/environ", "rb") as file:
                found += [name] if b"of-another" in file.read() else []
    return f"found {found}" if found else None


@attempt
def files_of_others(world):
    places = ["/tmp", "/dev/shm", "/var/tmp", "/work", "/home/user", "/run/lock"]
    found = [f"{place}/{name}" for place in places for name in os.listdir(place)]
    return f"found {found}" if found else None


def main():
    name, world = sys.argv[1], json.loads(sys.argv[2])
    try:
        found = ATTEMPTS[name](world)
    except OSError as error:
        print(f"\nheld: {error}")
    else:
        print("\nheld" if found is None else f"\nthrough: {found}")


main()
