"""Certificates of one's own, each its own CA."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.services.missing import find_program


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, two files in PEM form."""

    path: Path
    key: Path

    def make_context(self) -> ssl.SSLContext:
        """Return what a server needs to show it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path, self.key)
        return context

    def sign(self, data: bytes) -> bytes:
        """Return the RS256 signature of data."""
        command = [find_program("openssl", package="openssl"), "dgst", "-sha256", "-sign"]
        return subprocess.run(
            [*command, str(self.key)], input=data, capture_output=True, check=True
        ).stdout


def make_certificate(folder: Path, names: Sequence[str]) -> Certificate:
    """Return a certificate for names such as "IP:127.0.0.1" and "DNS:localhost"."""
    made = Certificate(folder / "cert.pem", folder / "key.pem")
    command = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=tests -keyout {made.key}"
    usage = "keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign"
    extensions = ["-addext", f"subjectAltName={','.join(names)}", "-addext", usage]
    program = find_program("openssl", package="openssl")
    subprocess.run(
        [program, *command.split(), "-out", str(made.path), *extensions],
        capture_output=True,
        check=True,
    )
    return made
