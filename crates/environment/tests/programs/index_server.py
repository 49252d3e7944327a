"""A Python package index on loopback, with small packages that it makes itself.

Arguments: a folder to make them in, and perhaps USER:PASSWORD. Writes its port as the first line.
There are `spawn-alpha` 1.0 and 1.1, which need `spawn-beta`, as wheels, and `spawn-gamma` as a
source distribution with a build program of its own."""

import base64
import hashlib
import http.server
import io
import os
import sys
import tarfile
import zipfile

FOLDER = sys.argv[1]
WANTED = sys.argv[2] if len(sys.argv) > 2 else None

BACKEND = '''
import base64, hashlib, os, zipfile
def get_requires_for_build_wheel(config_settings=None):
    return []
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "spawn_gamma-1.0-py3-none-any.whl"
    files = {
        "spawn_gamma.py": "BUILT = True\\n",
        "spawn_gamma-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: spawn-gamma\\nVersion: 1.0\\n",
        "spawn_gamma-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(path + ",,\\n" for path in files)
    files["spawn_gamma-1.0.dist-info/RECORD"] = record
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name
'''


def wheel(name, version, needs=()):
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{module}.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    files[f"{info}/RECORD"] = "".join(path + ",,\n" for path in files) + f"{info}/RECORD,,\n"
    path = os.path.join(FOLDER, f"{module}-{version}-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(zipfile.ZipInfo(inside, (2020, 1, 1, 0, 0, 0)), text)


def sdist():
    files = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: spawn-gamma\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        'backend-path = ["."]\n[project]\nname = "spawn-gamma"\nversion = "1.0"\n',
        "backend.py": BACKEND,
    }
    with tarfile.open(os.path.join(FOLDER, "spawn_gamma-1.0.tar.gz"), "w:gz") as archive:
        for inside, text in files.items():
            entry = tarfile.TarInfo("spawn_gamma-1.0/" + inside)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))


wheel("spawn-alpha", "1.0", ["spawn-beta>=1"])
wheel("spawn-alpha", "1.1", ["spawn-beta>=1"])
wheel("spawn-beta", "1.5")
sdist()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        header = self.headers.get("Authorization", "")
        if WANTED and header != "Basic " + base64.b64encode(WANTED.encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.end_headers()
            return
        parts = self.path.strip("/").split("/")
        files = sorted(os.listdir(FOLDER))
        body, kind = None, "text/html"
        if parts[0] == "simple" and len(parts) == 2:
            mine = [it for it in files if it.startswith(parts[1].replace("-", "_") + "-")]
            if mine:
                links = ""
                for it in mine:
                    data = open(os.path.join(FOLDER, it), "rb").read()
                    digest = hashlib.sha256(data).hexdigest()
                    links += f'<a href="/files/{it}#sha256={digest}">{it}</a><br>\n'
                body = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
        elif parts[0] == "files" and len(parts) == 2 and parts[1] in files:
            body, kind = open(os.path.join(FOLDER, parts[1]), "rb").read(), "application/zip"
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body or b"")

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
