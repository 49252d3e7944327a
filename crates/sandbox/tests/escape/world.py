"""The world of the escape suite: a host of its own, in namespaces that the test made.

`world.py host FOLDER UID SECONDS GROUPS`: becomes the host. It runs in new mount, process, network, host name and
IPC namespaces; it makes a second network namespace for the hosts beyond, and serves on addresses
in both. Prints `ready`; then, for each line with the paths of two sockets, serves
the first and forwards to the second. Ends with standard input, and everything in the world with it;
after SECONDS at the latest.

`world.py run GROUPS COMMAND...`: runs a command with a session keyring that holds a key.

GROUPS are files of control groups, joined by `:`, through which both come under the outer limits.
"""

import ctypes, os, signal, socket, subprocess, sys, threading, time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
BEYOND = ["198.51.100.1/24", "10.9.9.1/24", "169.254.169.254/16"]
HOST = ["198.51.100.254/24", "10.9.9.254/24", "169.254.1.1/16"]
CANARY = b"canary of the network\n" + b"x" * 300_000


def check(result):
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def ip(*words):
    subprocess.run(["/usr/sbin/ip", *words], check=True)


def configure(addresses):
    ip("link", "set", "lo", "up")
    ip("link", "set", "e0", "up")
    for address in addresses:
        ip("addr", "add", address, "dev", "e0")


def answer(connection):
    try:
        connection.sendall(CANARY)
    except OSError:
        pass
    connection.close()


def copy(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
    except OSError:
        pass
    for it in source, target:
        try:
            it.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def forward(connection, far):
    """The test is in no process namespace of this world, but a launcher talks only with callers
    whom it can see: this is their way to it."""
    with socket.socket(socket.AF_UNIX) as launcher:
        try:
            launcher.connect(far)
        except OSError:
            return connection.close()
        threading.Thread(target=copy, args=(launcher, connection), daemon=True).start()
        copy(connection, launcher)


def serve(family, address, handler=answer):
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(64)

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=handler, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def beyond(ready, go):
    """The hosts that the world's host can reach."""
    check(LIBC.unshare(CLONE_NEWNET))
    os.write(ready, b"x")
    os.read(go, 1)
    configure(BEYOND)
    for address in BEYOND:
        serve(socket.AF_INET, (address.split("/")[0], 80))
    os.write(ready, b"x")
    signal.pause()


def memory_of_all():
    """A segment and a queue that everybody may use."""
    LIBC.shmat.restype = ctypes.c_void_p
    segment = check(LIBC.shmget(0x5EC0DE, 4096, 0o1666))
    ctypes.memmove(LIBC.shmat(segment, None, 0), b"canary", 7)
    check(LIBC.msgget(0x5EC0DE, 0o1666))


def sleeper(uid):
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        os.execv("/usr/bin/sleep", ["sleep", "86399"])
    while b"86399" not in open(f"/proc/{pid}/cmdline", "rb").read():
        time.sleep(0.001)


def limit(groups):
    for path in filter(None, groups.split(":")):
        with open(path, "w") as file:
            file.write("0")


def host(folder, uid, seconds):
    # What ends by itself needs nobody who ends it: not the test, whose process may be stuck.
    signal.signal(signal.SIGALRM, lambda *_: os._exit(1))
    signal.alarm(seconds)
    (ready, their_ready), (their_go, go) = os.pipe(), os.pipe()
    other = os.fork()
    if other == 0:
        beyond(their_ready, their_go)
    os.read(ready, 1)
    socket.sethostname("host-of-the-world")
    ip("link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", str(other))
    configure(HOST)
    os.write(go, b"x")
    os.read(ready, 1)
    for address in ["127.0.0.1", *(address.split("/")[0] for address in HOST)]:
        serve(socket.AF_INET, (address, 8080))
    serve(socket.AF_INET6, ("::1", 8080))
    serve(socket.AF_UNIX, "\0escape")
    serve(socket.AF_UNIX, folder + "/socket")
    os.chmod(folder + "/socket", 0o666)
    memory_of_all()
    sleeper(0)
    sleeper(uid)
    # What ends in this world is nobody's: the kernel reaps it.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        near, far = line.split()
        serve(socket.AF_UNIX, near, lambda connection: forward(connection, far))
        print("serving", flush=True)


def run(command):
    KEYCTL, ADD_KEY, JOIN, SESSION = 250, 248, 1, -3
    if os.uname().machine != "x86_64":
        KEYCTL, ADD_KEY = 219, 217
    if LIBC.syscall(KEYCTL, JOIN, None) != -1:
        check(LIBC.syscall(ADD_KEY, b"user", b"escape-canary", b"canary", 6, SESSION))
    os.execv(command[0], command)


if sys.argv[1] == "host":
    limit(sys.argv[5])
    host(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
else:
    limit(sys.argv[2])
    run(sys.argv[3:])
