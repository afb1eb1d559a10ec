"""Debian's docker-registry on loopback, started by a test: plain or TLS, open or behind a login.

    with running(folder) as registry:
        registry.put(repository, tag, blobs) ... registry.host is "127.0.0.1:PORT"

Certificates are made with openssl, below a folder of the test's.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = "docker-registry"
START_SECONDS = 20
USER, PASSWORD = "alice", "open sesame"
# What `htpasswd -nbB alice "open sesame"` says; the registry reads bcrypt only.
HTPASSWD = "alice:$2y$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n"

needs_registry = pytest.mark.skipif(
    shutil.which(PROGRAM) is None, reason="no docker-registry: apt-get install docker-registry"
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """A CA, a server's certificate for 127.0.0.1 and localhost, and a client's."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """Where the registry sends who has no token, and whom it believes."""

    realm: str
    certificate: Path
    service: str = "tests"
    issuer: str = "tests"


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry."""

    host: str
    folder: Path

    @property
    def port(self) -> int:
        return int(self.host.rpartition(":")[2])

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps a blob."""
        encoded = digest.partition(":")[2]
        return self.folder / f"docker/registry/v2/blobs/sha256/{encoded[:2]}/{encoded}/data"


@contextmanager
def running(
    folder: Path,
    *,
    tls: Certificates | None = None,
    client_certificates: bool = False,
    login: bool = False,
    tokens: TokenAuth | None = None,
) -> Iterator[Registry]:
    """A registry that keeps its content below `folder`, ended when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    configuration = folder / "config.yml"
    configuration.write_text(_configuration(folder, port, tls, client_certificates, login, tokens))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", configuration], stdout=log, stderr=log)
        try:
            _wait_until_up(process, port, tls, folder / "log")
            yield Registry(f"127.0.0.1:{port}", folder / "data")
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


def certificates(folder: Path) -> Certificates:
    """Make a CA and what it signs."""
    folder.mkdir(parents=True, exist_ok=True)
    _openssl(
        folder,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
        " -keyout ca.key -out ca.crt -subj /CN=tests-ca -addext basicConstraints=critical,CA:TRUE"
        " -addext keyUsage=critical,keyCertSign,cRLSign",
    )
    for name, extra in (("server", "subjectAltName=IP:127.0.0.1,DNS:localhost"), ("client", "")):
        usage = f"extendedKeyUsage={name}Auth\nauthorityKeyIdentifier=keyid\n{extra}\n"
        (folder / f"{name}.ext").write_text(usage)
        _openssl(
            folder,
            f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key"
            f" -out {name}.csr -subj /CN={name}",
        )
        _openssl(
            folder,
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30"
            f" -extfile {name}.ext -out {name}.crt",
        )
    return Certificates(
        *(folder / name for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key"))
    )


def _openssl(folder: Path, command: str) -> None:
    subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _configuration(
    folder: Path,
    port: int,
    tls: Certificates | None,
    client_certificates: bool,
    login: bool,
    tokens: TokenAuth | None,
) -> str:
    lines = [
        "version: 0.1",
        "log: {level: info, accesslog: {disabled: false}}",
        f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}, delete: {{enabled: true}}}}",
        "http:",
        f"  addr: 127.0.0.1:{port}",
        "  secret: not-one",
    ]
    if tls is not None:
        lines += ["  tls:", f"    certificate: {tls.server}", f"    key: {tls.server_key}"]
        if client_certificates:
            lines += ["    clientcas:", f"      - {tls.ca}"]
    if login:
        (folder / "htpasswd").write_text(HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {folder / 'htpasswd'}}}}}")
    if tokens is not None:
        lines += [
            "auth:",
            "  token:",
            f"    realm: {tokens.realm}",
            f"    service: {tokens.service}",
            f"    issuer: {tokens.issuer}",
            f"    rootcertbundle: {tokens.certificate}",
        ]
    return "\n".join(lines) + "\n"


def _wait_until_up(process: subprocess.Popen[bytes], port: int, tls: Certificates | None, log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, f"docker-registry ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < ends, f"docker-registry does not answer: {log.read_text()[-2000:]}"
        try:
            _ask(port, tls)
            return
        except OSError:
            time.sleep(0.02)  # between two tries, not for something to be over


def _ask(port: int, tls: Certificates | None) -> None:
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    else:
        context = ssl.create_default_context(cafile=tls.ca)
        context.load_cert_chain(tls.client, tls.client_key)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        connection.request("GET", "/v2/")
        connection.getresponse().read()
    finally:
        connection.close()
