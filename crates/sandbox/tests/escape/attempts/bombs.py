"""Using up what others need. Each bomb ends by itself at some multiple of what should stop it; the
host that it runs on has limits of its own besides (`outer.rs`)."""

import errno, os, resource, signal, subprocess, time

from attempt import any_of, attempt


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
