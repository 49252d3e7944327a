"""The test hosts: servers in a network namespace of their own.

Arguments: addresses to serve on. Prints `ready` when all is served.

Port 80 (TCP): a line `echo`, then everything back until the end; a line `hash`, then the SHA-256
of everything until the end; a line `send N`, then N bytes; a line `who`, then the caller's address.
Port 81 (TCP): the same. Port 90 (UDP): each datagram back.
Port 53 (UDP and TCP): names below `test`.
"""

import hashlib, random, socket, socketserver, struct, sys, threading

NAMES = {
    "good.test": ("198.51.100.1", 5),
    "other.test": ("198.51.100.2", 5),
    "sub.good.test": ("198.51.100.3", 5),
    "rebinding.good.test": ("10.9.9.1", 5),
    "metadata.good.test": ("169.254.169.254", 5),
}


def pattern(count):
    return random.Random(1).randbytes(count)


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        word, _, argument = self.rfile.readline().decode().strip().partition(" ")
        if word == "echo":
            while piece := self.rfile.read1(65536):
                self.wfile.write(piece)
        elif word == "hash":
            digest = hashlib.sha256()
            while piece := self.rfile.read1(65536):
                digest.update(piece)
            self.wfile.write(digest.hexdigest().encode())
        elif word == "send":
            self.wfile.write(pattern(int(argument)))
        elif word == "who":
            self.wfile.write(self.client_address[0].encode())


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        data, reply = self.request
        reply.sendto(data, self.client_address)


def answer(query):
    end = query.index(b"\0", 12) + 5
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    name = ".".join(labels).lower()
    kind = struct.unpack(">H", query[end - 4 : end - 2])[0]
    records, code = [], 0
    if name == "big.test" and kind == 16:
        records = [struct.pack(">HHHIH", 0xC00C, 16, 1, 60, 201) + b"\xc8" + b"x" * 200] * 9
    elif name not in NAMES:
        code = 3
    elif kind == 1:
        address, ttl = NAMES[name]
        records = [struct.pack(">HHHIH", 0xC00C, 1, 1, ttl, 4) + socket.inet_aton(address)]
    head = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records), 0, 0)
    return head + query[12:end] + b"".join(records)


class DnsUdp(socketserver.BaseRequestHandler):
    def handle(self):
        query, reply = self.request
        reply.sendto(answer(query), self.client_address)


class DnsTcp(socketserver.StreamRequestHandler):
    def handle(self):
        while head := self.rfile.read(2):
            reply = answer(self.rfile.read(struct.unpack(">H", head)[0]))
            self.wfile.write(struct.pack(">H", len(reply)) + reply)


def serve(kind, address, port, handler):
    class Server(kind):
        allow_reuse_address = True
        request_queue_size = 64
        max_packet_size = 65536
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def handle_error(self, request, client_address):
            """A connection may end in any way."""

    server = Server((address, port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


for address in sys.argv[1:]:
    for port in (80, 81):
        serve(socketserver.ThreadingTCPServer, address, port, Tcp)
    serve(socketserver.ThreadingUDPServer, address, 90, Udp)
    if address.endswith(".53"):
        serve(socketserver.ThreadingUDPServer, address, 53, DnsUdp)
        serve(socketserver.ThreadingTCPServer, address, 53, DnsTcp)
print("ready", flush=True)
sys.stdin.read()
