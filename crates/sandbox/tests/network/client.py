"""What an instance does with its network: one attempt for each argument, one line for each result."""

import errno, hashlib, random, socket, sys

TIMEOUT = 20


def code(error):
    if isinstance(error, socket.gaierror):
        return "no name"
    if isinstance(error, TimeoutError):
        return "timeout"
    return errno.errorcode.get(error.errno, str(error))


def connected(target):
    host, _, port = target.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), TIMEOUT)


def whole(stream):
    pieces = []
    while piece := stream.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def tcp(target):
    with connected(target) as stream:
        stream.sendall(b"echo\nhello")
        stream.shutdown(socket.SHUT_WR)
        return whole(stream).decode()


def who(target):
    with connected(target) as stream:
        stream.sendall(b"who\n")
        return whole(stream).decode()


def upload(target, count):
    data = random.Random(2).randbytes(int(count))
    with connected(target) as stream:
        stream.sendall(b"hash\n")
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        return "intact" if whole(stream).decode() == hashlib.sha256(data).hexdigest() else "broken"


def download(target, count):
    with connected(target) as stream:
        stream.sendall(b"send %s\n" % count.encode())
        return "intact" if whole(stream) == random.Random(1).randbytes(int(count)) else "broken"


def echo(target, count):
    """Both directions at once, more than any buffer holds."""
    import threading

    data = random.Random(3).randbytes(int(count))
    with connected(target) as stream:
        def send():
            stream.sendall(b"echo\n" + data)
            stream.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        result = whole(stream)
        thread.join()
        return "intact" if result == data else "broken"


def many(target, count, size):
    """As many connections at once."""
    import threading

    results = []
    work = lambda: results.append(echo(target, size))
    threads = [threading.Thread(target=work) for _ in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{results.count('intact')} intact"


def hold(target, count):
    """Connections that are kept, until one is refused; then one more in the place of the first."""
    streams = []
    try:
        for _ in range(int(count)):
            streams.append(connected(target))
            streams[-1].sendall(b"echo\nx")
            assert streams[-1].recv(1) == b"x"
        result = "none refused"
    except OSError as error:
        result = f"{len(streams)} {code(error)}"
    first = streams.pop(0)
    first.shutdown(socket.SHUT_WR)
    assert whole(first) == b""
    first.close()
    for stream in streams[1:]:
        stream.close()
    return f"{result} {tcp(target)}"


def udp(target, count="5"):
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(TIMEOUT)
        datagrams.connect((host, int(port)))
        data = random.Random(4).randbytes(int(count))
        datagrams.send(data)
        return "intact" if datagrams.recv(65536) == data else "broken"


def name(text):
    return socket.getaddrinfo(text, 80, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]


def dns(kind, text, over="udp"):
    query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    query += b"".join(bytes([len(it)]) + it.encode() for it in text.split(".")) + b"\0"
    query += int(kind).to_bytes(2, "big") + b"\0\1"
    if over == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(TIMEOUT)
            datagrams.sendto(query, ("192.0.0.1", 53))
            answer = datagrams.recv(65536)
    else:
        with connected("192.0.0.1:53") as stream:
            stream.sendall(len(query).to_bytes(2, "big") + query)
            head = stream.recv(2)
            size, answer = int.from_bytes(head, "big"), b""
            while len(answer) < size:
                answer += stream.recv(65536)
    cut = "cut" if answer[2] & 2 else "whole"
    return f"{answer[3] & 15} {int.from_bytes(answer[6:8], 'big')} {cut}"


def bind(address):
    with socket.socket() as stream:
        stream.bind((address, 0))
        return "bound"


def sock(family, kind, protocol):
    socket.socket(int(family), int(kind), int(protocol)).close()
    return "open"


def freebind(address):
    """A datagram with another source."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.setsockopt(socket.IPPROTO_IP, 15, 1)
        datagrams.bind((address, 0))
        datagrams.settimeout(TIMEOUT)
        try:
            datagrams.sendto(b"x", ("198.51.100.1", 90))
        except OSError as error:
            # Kernels say it in different ways.
            return "refused" if error.errno in (errno.EINVAL, errno.ENETUNREACH) else code(error)
        return "sent"


for attempt in sys.argv[1:]:
    word, *arguments = attempt.split()
    try:
        result = globals()[word](*arguments)
    except OSError as error:
        result = code(error)
    print(result, flush=True)
