"""Pushes to a real registry, and to one that a proxy makes fail."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fftasks.errors import ToolError
from fftasks.image.docker_builder import DockerBuilder
from fftasks.image.push import push_image
from fftasks.image.recipe import ImageNotFoundError
from fftasks.registry.registry_auth import RegistryLogin

RESET = b""


@pytest.fixture
def made(engine, tmp_path) -> Iterator[dict[str, str]]:
    """Give the record of a small image."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo("name")
        info.size = len(bytes(tmp_path))
        archive.addfile(info, io.BytesIO(bytes(tmp_path)))
    answer = engine.api.import_image_from_data(data.getvalue(), "fftasks-test/small", "1")
    image = json.loads(answer)["status"]
    yield {"output": image}
    engine.images.remove(image, force=True)


@pytest.fixture
def login(registry) -> RegistryLogin:
    return RegistryLogin(registry.server, registry.username, registry.password)


@pytest.fixture
def sender():
    return Sender()


class Sender:
    """An engine that does not wait, and what it said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.on_wait = lambda: None

    def push(self, made, repository, login=None, tag="latest"):
        waits = []

        def pause(seconds):
            waits.append(seconds)
            self.on_wait()

        engine = DockerBuilder(login, say=self.said.append, pause=pause)
        return push_image(made, push=engine.push, repository=repository, tag=tag)


@contextmanager
def run_proxy(target: int, host: str = "127.0.0.1") -> Iterator[Proxy]:
    proxy = Proxy(target, host)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


@dataclass
class Proxy:
    """A way to a server on which requests fail: when data has a sign, its answer is given instead.

    faults: pairs of sign and answer, each used once; RESET breaks the connection
    """

    target: int
    host: str
    faults: list[tuple[bytes, bytes]] = field(default_factory=list)

    def start(self) -> None:
        self._listener = socket.create_server((self.host, 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            back = threading.Thread(target=_relay, args=(server, client), daemon=True)
            back.start()
            while data := _receive(client):
                fault = next((fault for fault in self.faults if fault[0] in data), None)
                if fault is not None:
                    self.faults.remove(fault)
                    _answer(client, fault[1])
                    break
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)
            back.join()


def _relay(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := _receive(source):
            target.sendall(data)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _answer(client: socket.socket, answer: bytes) -> None:
    if answer == RESET:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        client.sendall(answer)


def denied() -> bytes:
    return http("403 Forbidden", "requested access to the resource is denied", "DENIED")


def http(status: str, message: str = "", code: str = "UNKNOWN") -> bytes:
    text = json.dumps({"errors": [{"code": code, "message": message}]}) if message else ""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nContent-Type: application/json\r\n"
    return f"{head}Connection: close\r\n\r\n{text}".encode()


@pytest.fixture
def proxy(registry):
    with run_proxy(registry.port) as proxy:
        yield proxy


@pytest.fixture
def through(proxy, registry) -> RegistryLogin:
    return RegistryLogin(f"localhost:{proxy.port}", registry.username, registry.password)


# what works


def test_reference_is_what_the_registry_has(made, registry, login, sender):
    repository = f"{registry.server}/team/sums"

    record = sender.push(made, repository, login, tag="v1")

    assert record["output"] == registry.get_digest("team/sums", "v1")
    assert record["reference"] == f"{repository}@{record['output']}"
    assert registry.list_tags("team/sums") == [f"image-{made['output'][7:23]}", "v1"]
    assert sender.said == []


def test_reference_can_be_pulled(made, registry, login, sender, engine):
    record = sender.push(made, f"{registry.server}/pulled", login)

    pulled = engine.api.pull(record["reference"], auth_config=registry.credentials)

    assert "error" not in pulled
    assert engine.images.get(record["reference"]).id == made["output"]


def test_second_push_gives_the_same_record(made, registry, login, sender):
    repository = f"{registry.server}/twice"

    assert sender.push(made, repository, login) == sender.push(made, repository, login)


def test_login_of_docker_is_used_where_the_settings_have_none(made, registry, sender):
    auth = base64.b64encode(f"{registry.username}:{registry.password}".encode()).decode()
    config = {"auths": {registry.server: {"auth": auth}}}
    (Path(os.environ["DOCKER_CONFIG"]) / "config.json").write_text(json.dumps(config))

    record = sender.push(made, f"{registry.server}/own-login")

    assert registry.get_digest("own-login", "latest") == record["output"]


# what is refused


def test_wrong_password_is_said_and_not_shown(made, registry, sender):
    login = RegistryLogin(registry.server, "bob", "hunter2")

    with pytest.raises(ToolError, match="does not accept the login") as caught:
        sender.push(made, f"{registry.server}/refused", login)

    assert "registry.username ('bob')" in str(caught.value)
    assert registry.server in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert registry.list_tags("refused") == []
    assert sender.said == []


def test_no_password_is_said(made, registry, sender):
    with pytest.raises(ToolError, match=f"docker login {registry.server}"):
        sender.push(made, f"{registry.server}/refused")


def test_server_that_is_nowhere(made, sender):
    with pytest.raises(ToolError, match="no such host") as caught:
        sender.push(made, "registry.invalid/sums")

    assert "registry.server" in caught.value.tip


def test_server_that_speaks_plain_http(made, registry, sender, engine):
    config = engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
    gateway = config.get("Gateway") or config["Subnet"].rpartition(".")[0] + ".1"

    # not a loopback address, for which the engine would try plain http as well
    with (
        run_proxy(registry.port, gateway) as proxy,
        pytest.raises(ToolError, match="plain http") as caught,
    ):
        sender.push(made, f"{gateway}:{proxy.port}/sums")

    assert "insecure-registries" in caught.value.tip


def test_image_that_is_gone_has_an_error_of_its_own(registry, login, sender):
    gone = {"output": "sha256:" + "0" * 64}

    with pytest.raises(ImageNotFoundError, match="not found in the engine"):
        sender.push(gone, f"{registry.server}/gone", login)


def test_registry_without_space(made, proxy, through, sender):
    proxy.faults.append((b"PUT /v2/full/manifests", http("400 Bad Request", "exceeds the quota")))

    with pytest.raises(ToolError, match="no space left"):
        sender.push(made, f"{through.host}/full", through)


def test_denied(made, proxy, through, sender):
    proxy.faults.append((b"PUT /v2/denied/manifests", denied()))

    with pytest.raises(ToolError, match="permission denied by the registry"):
        sender.push(made, f"{through.host}/denied", through)


def test_registry_that_took_it_and_does_not_have_it(made, proxy, through, sender):
    digest = b"/manifests/sha256:"
    proxy.faults += [(digest, http("404 Not Found")), (digest, http("404 Not Found"))]

    with pytest.raises(ToolError, match="is not found in the registry"):
        sender.push(made, f"{through.host}/lost", through)


def test_login_that_may_write_and_not_read_is_enough(made, proxy, through, sender):
    digest = b"/manifests/sha256:"
    proxy.faults += [(digest, denied()), (digest, denied())]

    record = sender.push(made, f"{through.host}/write-only", through)

    assert record["output"].startswith("sha256:")


# what passes


@pytest.mark.parametrize(
    "answer", [http("500 Internal Server Error", "oops"), http("503 Service Unavailable"), RESET]
)
def test_failure_that_passes_is_tried_again_with_a_word(
    made, proxy, through, sender, registry, answer
):
    proxy.faults.append((b"PUT /v2/again/manifests", answer))

    record = sender.push(made, f"{through.host}/again", through)

    assert registry.get_digest("again", "latest") == record["output"]
    assert sender.said == ["push: the registry did not complete the request; trying again in 1 s"]


def test_failure_that_stays_is_an_error_after_a_few_times(made, proxy, through, sender):
    proxy.faults += [(b"PUT /v2/stays/manifests", http("503 Service Unavailable"))] * 10

    with pytest.raises(ToolError, match="the registry did not complete the request") as caught:
        sender.push(made, f"{through.host}/stays", through)

    assert "503" in str(caught.value)
    assert len(sender.said) == 3
    assert len(proxy.faults) == 6


def test_break_in_the_middle_of_a_blob(made, proxy, through, sender, registry):
    proxy.faults.append((b"PATCH /v2/blob/blobs", RESET))

    record = sender.push(made, f"{through.host}/blob", through)

    assert registry.get_digest("blob", "latest") == record["output"]


def test_registry_that_is_down(made, registry, login, sender):
    registry.stop()

    with pytest.raises(ToolError, match="connection refused") as caught:
        sender.push(made, f"{registry.server}/down", login)

    assert "connection refused" in str(caught.value)
    assert len(sender.said) == 3


def test_registry_that_comes_back(made, registry, login, sender):
    registry.stop()
    sender.on_wait = registry.start

    record = sender.push(made, f"{registry.server}/back", login)

    assert registry.get_digest("back", "latest") == record["output"]
    assert sender.said == ["push: connection refused; trying again in 1 s"]
