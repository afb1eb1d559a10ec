"""A token server on loopback for docker-registry (distribution: docs/spec/auth/token, oauth, jwt).

It knows one user, one identity token, and everybody else, who may pull from `public/`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.registries import PASSWORD, USER, TokenAuth

IDENTITY = "an identity token"


@dataclass(slots=True)
class Asked:
    """A request for a token: how it came, from whom, for what."""

    method: str
    who: str
    scopes: list[str]
    service: str


@dataclass(slots=True)
class TokenServer:
    """What the server does, and what it was asked."""

    folder: Path
    auth: TokenAuth | None = None
    asked: list[Asked] = field(default_factory=list)
    knows_post: bool = True
    stale: int = 0
    """So many tokens to come are given out expired."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def token(self, who: str, scopes: list[str]) -> str:
        with self.lock:
            expired, self.stale = self.stale > 0, max(0, self.stale - 1)
        now = int(time.time()) - (3600 if expired else 0)
        access = [one for scope in scopes if (one := _granted(who, scope))]
        claims = {"iss": "tests", "aud": "tests", "sub": who, "jti": "1", "nbf": now - 5, "iat": now}
        claims |= {"exp": now + 300, "access": access}
        certificate = base64.b64encode(self._der()).decode()
        header = {"typ": "JWT", "alg": "RS256", "x5c": [certificate]}
        signed = f"{_url64(json.dumps(header).encode())}.{_url64(json.dumps(claims).encode())}"
        return f"{signed}.{_url64(self._sign(signed.encode()))}"

    def _der(self) -> bytes:
        return self._openssl("x509 -in token.crt -outform DER")

    def _sign(self, data: bytes) -> bytes:
        return self._openssl("dgst -sha256 -sign token.key", data)

    def _openssl(self, command: str, data: bytes = b"") -> bytes:
        words = ["openssl", *command.split()]
        return subprocess.run(words, input=data, cwd=self.folder, check=True, capture_output=True).stdout


def _granted(who: str, scope: str) -> dict[str, object] | None:
    kind, name, actions = scope.split(":")
    wanted = actions.split(",")
    if not who:
        wanted = [action for action in wanted if action == "pull" and name.startswith("public/")]
    return {"type": kind, "name": name, "actions": wanted} if wanted else None


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Handler(BaseHTTPRequestHandler):
    """Gives tokens out."""

    server_state: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        who, _, secret = _basic(self.headers.get("Authorization", "")).partition(":")
        if (who or secret) and (who, secret) != (USER, PASSWORD):
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]})
            return
        self._give(who, query.get("scope", []), query.get("service", [""])[0])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {key: values[0] for key, values in parse_qs(body).items()}
        known = (form.get("username"), form.get("password")) == (USER, PASSWORD)
        if form.get("grant_type") == "refresh_token":
            known = form.get("refresh_token") == IDENTITY
        if not self.server_state.knows_post:
            self._answer(404, {})
        elif known:
            self._give(USER, form.get("scope", "").split(), form.get("service", ""))
        else:
            self._answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]})

    def _give(self, who: str, scopes: list[str], service: str) -> None:
        state = self.server_state
        with state.lock:
            state.asked.append(Asked(self.command, who, scopes, service))
        self._answer(200, {"token": state.token(who, scopes), "expires_in": 300})

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _basic(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    return base64.b64decode(encoded).decode() if scheme == "Basic" else ""


@contextmanager
def serving(folder: Path) -> Iterator[TokenServer]:
    """A token server whose key and certificate lie in `folder`."""
    state = TokenServer(folder)
    state._openssl("req -x509 -newkey rsa:2048 -nodes -days 30 -keyout token.key -out token.crt -subj /CN=t")
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": state})) as server:
        state.auth = TokenAuth(f"http://127.0.0.1:{server.server_port}/token", folder / "token.crt")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
