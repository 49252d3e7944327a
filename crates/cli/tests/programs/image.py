"""Writes an OCI image layout with one layer, and something wrong with it if asked for.

`image.py FOLDER WHAT`: WHAT is `good`, `truncated` (the layer's file ends early), `digest` (it has
other content than its digest says) or `escape` (a path in it leads out).
"""

import gzip, hashlib, io, json, os, platform, sys, tarfile

folder, what = sys.argv[1], sys.argv[2]
blobs = os.path.join(folder, "blobs", "sha256")
os.makedirs(blobs)


def put(data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def layer():
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("/usr/bin/busybox", "bin/busybox", filter=owned)
        for name in ["sh", "cat", "id", "echo", "sleep"]:
            link = tarfile.TarInfo("bin/" + name)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        text(tar, "etc/passwd", b"root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n")
        text(tar, "srv/hello", b"hello from the image\n")
        if what == "escape":
            text(tar, "srv/../../escaped", b"out\n")
    return archive.getvalue()


def owned(entry):
    entry.uid = entry.gid = 0
    return entry


def text(tar, path, data):
    entry = tarfile.TarInfo(path)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


raw = layer()
packed = put(gzip.compress(raw, mtime=0))
path = os.path.join(blobs, packed["digest"][7:])
if what == "truncated":
    os.truncate(path, packed["size"] // 2)
if what == "digest":
    with open(path, "r+b") as file:
        file.seek(packed["size"] // 2)
        byte = file.read(1)
        file.seek(packed["size"] // 2)
        file.write(bytes([byte[0] ^ 1]))
architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
config = {
    "architecture": architecture,
    "os": "linux",
    "config": {"Env": ["PATH=/bin", "COLOUR=red"], "Cmd": ["cat", "/srv/hello"], "User": "web"},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(raw).hexdigest()]},
}
kind = "application/vnd.oci.image."
manifest = {
    "schemaVersion": 2,
    "mediaType": kind + "manifest.v1+json",
    "config": {"mediaType": kind + "config.v1+json", **put(json.dumps(config).encode())},
    "layers": [{"mediaType": kind + "layer.v1.tar+gzip", **packed}],
}
named = {"annotations": {"org.opencontainers.image.ref.name": "latest"}}
entry = {"mediaType": kind + "manifest.v1+json", **put(json.dumps(manifest).encode()), **named}
with open(os.path.join(folder, "index.json"), "w") as file:
    json.dump({"schemaVersion": 2, "manifests": [entry]}, file)
with open(os.path.join(folder, "oci-layout"), "w") as file:
    json.dump({"imageLayoutVersion": "1.0.0"}, file)
