"""Reaching the host and what is beyond it by sockets."""

import ctypes, errno, fcntl, socket, struct, time

from attempt import any_of, attempt, LIBC


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
