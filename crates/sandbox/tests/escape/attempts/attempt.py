"""What attempts share: how they are declared, and short ways to the kernel."""

import ctypes, os, platform

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


def mount(source, target, kind, flags=0, data=None):
    return checked(LIBC.mount(source, target, kind, flags, data))
