"""Changing or seeing what is shared with other instances."""

import os

from attempt import any_of, attempt


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
