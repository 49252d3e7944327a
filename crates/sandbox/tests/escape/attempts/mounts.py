"""Changing what is mounted."""

import os, stat

from attempt import any_of, attempt, checked, LIBC, mount, syscall


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
