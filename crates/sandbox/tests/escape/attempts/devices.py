"""Finding and making devices."""

import os, stat

from attempt import any_of, attempt


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
