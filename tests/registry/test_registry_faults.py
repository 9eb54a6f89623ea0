"""What goes wrong between here and a real registry: what passes is tried again, the rest is said."""

from __future__ import annotations

import json

import pytest

from fftasks.errors import ToolError
from fftasks.registry import registry_connection
from fftasks.registry.registry_auth import RegistryLogin
from tests.services.fault_proxy import Cut, FaultProxy, Reply, Reset, Silence, refuse
from tests.services.registry_client import Client, digest, make_blob, make_manifest

PAGE = {"Content-Type": "text/html; charset=utf-8"}
FULL = {  # what registry 2.8 says when its disk is full: in the middle of a blob, and at its start
    "blob": "write /var/lib/registry/docker/x/_uploads/1/data: no space left on device",
    "start": {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Path": "/x", "Err": 28}},
}


def full(detail, *, early=False):
    errors = [{"code": "UNKNOWN", "message": "unknown error", "detail": detail}]
    body = json.dumps({"errors": errors}).encode()
    return Reply(500, {"Content-Type": "application/json"}, body, early=early)


# what passes

PASSING = [
    (refuse(500), "the registry did not complete the request"),
    (refuse(502), "the registry did not complete the request"),
    (refuse(503), "the registry did not complete the request"),
    (Reply(502, PAGE, b"<html>Bad Gateway</html>"), "the registry did not complete the request"),
    (Reset(), "the registry did not complete the request"),
    (refuse(429, "TOOMANYREQUESTS", "slow down"), "the registry's rate limit is reached"),
    (refuse(429, "DENIED", "quota exceeded"), "the registry's rate limit is reached"),
]


@pytest.mark.parametrize(("fault", "meaning"), PASSING)
@pytest.mark.parametrize(
    "request_", ["HEAD .*/blobs/", "POST .*/uploads/", "PUT .*/uploads/", "PUT .*/manifests/"]
)
def test_failure_that_passes_is_tried_again_with_a_word(
    client, proxy, registry, request_, fault, meaning
):
    blob = make_blob()
    proxy.break_next(request_, fault)

    client.push("faults/again", blob)

    assert client.find_digest("faults/again", "1") == make_manifest(blob).digest
    assert client.said == [f"registry: {meaning}; trying again in 1 s"]
    assert client.waits == [1]
    assert proxy.faults == []


@pytest.mark.parametrize(("fault", "meaning"), PASSING)
def test_failure_that_passes_while_something_is_read(client, proxy, fault, meaning):
    blob = make_blob()
    client.push("faults/read", blob)
    proxy.break_next("GET", fault)

    assert client.read_blob("faults/read", digest(blob)) == blob
    assert len(client.said) == 1


def test_failure_that_passes_while_a_blob_is_mounted(client, proxy):
    blob = make_blob()
    client.send_blob("faults/source", digest(blob), blob)
    proxy.break_next("POST .*mount=", refuse(503))

    assert client.mount_blob("faults/mount", digest(blob), "faults/source")
    assert client.waits == [1]


def test_failure_that_comes_twice_is_waited_for_longer(client, proxy):
    proxy.break_next("PUT .*/uploads/", refuse(500), refuse(500))
    blob = make_blob()

    assert client.send_blob("faults/twice", digest(blob), blob) == len(blob)
    assert client.waits == [1, 4]


def test_failure_that_stays_is_an_error_after_three_more_tries(client, proxy):
    proxy.break_next("HEAD", *[refuse(503)] * 10)

    with pytest.raises(ToolError, match="the registry did not complete the request") as caught:
        client.has_blob("faults/stays", digest(b""))

    assert "HTTP status: 503" in str(caught.value)
    assert client.waits == [1, 4, 9]
    assert len(proxy.faults) == 6


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("7", 7),
        ("100000", 60),
        ("0", 1),
        ("soon", 1),
        ("Fri, 31 Dec 2199 23:59:59 GMT", 60),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 1),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_registry_says_how_long_to_wait(client, proxy, asked, waited, status):
    proxy.break_next("HEAD", refuse(status, headers={"Retry-After": asked}))

    assert not client.has_blob("faults/wait", digest(b"wait"))
    assert client.waits == [waited]


def test_break_in_the_middle_of_a_blob(client, proxy, tmp_path):
    path = tmp_path / "layer"
    path.write_bytes(make_blob(1_000_000))
    proxy.break_next("PUT .*/uploads/", Reset(after=500_000))

    sent = client.send_blob("faults/middle", digest(path.read_bytes()), path)

    assert sent == 1_000_000
    assert client.waits == [1]
    assert client.read_blob("faults/middle", digest(path.read_bytes())) == path.read_bytes()


def test_break_after_the_registry_took_it_sends_nothing_again(client, proxy):
    blob = make_blob()
    proxy.break_next("PUT .*/uploads/", lambda exchange: (exchange.ask(), exchange.reset()))

    sent = client.send_blob("faults/taken", digest(blob), blob)

    assert sent == 0
    assert proxy.count("PUT .*/uploads/") == 1


def test_break_in_the_middle_of_what_is_read(client, proxy):
    blob = make_blob(100_000)
    client.send_blob("faults/cut", digest(blob), blob)
    proxy.break_next("GET", Cut(after=50_000))

    assert client.read_blob("faults/cut", digest(blob)) == blob
    assert client.waits == [1]


def test_break_in_the_middle_of_what_is_copied(client, proxy, registry):
    blob = make_blob(1_000_000)
    client.send_blob("faults/source", digest(blob), blob)
    target = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )
    proxy.break_next("GET", Cut(after=500_000))

    sent = target.copy_blob("faults/copied", digest(blob), client, "faults/source")

    assert sent == len(blob)
    assert target.waits == [1]
    assert target.read_blob("faults/copied", digest(blob)) == blob


def test_slow_answer_is_not_waited_for_for_ever(client, proxy, monkeypatch):
    assert not client.has_blob("faults/slow", digest(b"slow"))
    proxy.break_next("HEAD", *[Silence()] * 4)
    monkeypatch.setattr(registry_connection, "_READ_S", 0.05)

    with pytest.raises(ToolError, match="the registry did not complete the request") as caught:
        client.has_blob("faults/slow", digest(b"slow"))

    assert "timed out" in str(caught.value)
    assert client.waits == [1, 4, 9]


def test_registry_that_is_down(registry):
    client = Client(registry.server)
    registry.stop()

    with pytest.raises(ToolError, match="connection refused"):
        client.find_digest("faults/down", "1")

    assert client.waits == [1, 4, 9]


def test_registry_that_comes_back(registry):
    client = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )
    registry.stop()
    client.on_wait = registry.start

    assert client.find_digest("faults/back", "1") is None
    assert client.said == ["registry: connection refused; trying again in 1 s"]


# what stays


def test_host_that_is_nowhere():
    client = Client("registry.invalid")

    with pytest.raises(ToolError, match="the host was not found") as caught:
        client.find_digest("x", "1")

    assert "registry.server" in caught.value.tip
    assert client.waits == []


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [
        (
            refuse(403, "DENIED", "requested access to the resource is denied"),
            "permission denied by the registry",
        ),
        (refuse(404, "NAME_UNKNOWN", "repository name not known"), "repository was not found"),
        (full(FULL["start"]), "no space left"),
        (full(FULL["blob"]), "no space left"),
        (full(FULL["blob"], early=True), "no space left"),
        (refuse(507), "no space left"),
        (Reply(413, PAGE, b"<html>Request Entity Too Large</html>", early=True), "too large"),
        (refuse(400, "SOMETHING", "new"), "the registry refused"),
    ],
)
def test_refusal_that_stays_is_said_at_once(client, proxy, fault, meaning, tmp_path):
    path = tmp_path / "layer"
    path.write_bytes(make_blob(1_000_000))
    proxy.break_next("PUT .*/uploads/", fault)

    with pytest.raises(ToolError, match=meaning) as caught:
        client.send_blob("faults/stays", digest(path.read_bytes()), path)

    assert caught.value.tip
    assert "/var/lib" not in str(caught.value)
    assert client.waits == []


# then the next call finishes the job


@pytest.mark.parametrize(
    "fault", [full(FULL["blob"], early=True), refuse(401), refuse(403), refuse(404), refuse(429)]
)
def test_next_push_sends_only_what_is_missing(client, proxy, fault):
    blobs = [make_blob(), make_blob(), make_blob()]
    client.send_blob("faults/next", digest(blobs[0]), blobs[0])
    proxy.break_next("PUT .*/uploads/", *[fault] * 4)
    with pytest.raises(ToolError):
        client.push("faults/next", *blobs)
    proxy.faults.clear()

    sent = client.push("faults/next", *blobs)

    assert sent[:3] == [0, 1000, 1000]
    assert client.find_digest("faults/next", "1") == make_manifest(*blobs).digest


@pytest.mark.parametrize("fault", [refuse(403), refuse(500), Reset()])
def test_next_push_after_a_refused_manifest_sends_the_manifest_only(client, proxy, fault):
    blob = make_blob()
    proxy.break_next("PUT .*/manifests/", *[fault] * 4)
    with pytest.raises(ToolError):
        client.push("faults/manifest", blob)
    proxy.faults.clear()

    assert client.push("faults/manifest", blob) == [0, 0]
    assert client.find_digest("faults/manifest", "1") == make_manifest(blob).digest


# answers of what is no registry


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("ask", ["has_blob", "find_digest", "read_blob", "send_blob"])
def test_web_page_is_no_registry(ask, status):
    with FaultProxy(0) as proxy:
        proxy.break_next(".*", *[Reply(status, PAGE, b"<html>Log in!</html>")] * 3)
        client = Client(proxy.server)
        blob = [b""] if ask == "send_blob" else []

        with pytest.raises(ToolError, match=r"not a registry|not found in the registry") as caught:
            getattr(client, ask)("team/x", digest(b""), *blob)

    if ask != "read_blob":
        assert "registry.server" in caught.value.tip


def test_login_page_is_no_registry():
    with FaultProxy(0) as proxy:
        proxy.break_next("HEAD /v2", Reply(302, {"Location": "/login"}))
        proxy.break_next("HEAD /login", Reply(200, PAGE))

        with pytest.raises(ToolError, match="not a registry"):
            Client(proxy.server).has_blob("team/x", digest(b""))


def test_page_that_says_no_does_not_hide_a_registry(client, proxy):
    proxy.break_next("HEAD", Reply(404, PAGE))

    assert not client.has_blob("team/x", digest(b""))


def test_registry_that_fails_while_it_is_asked_whether_it_is_one(client, proxy):
    proxy.break_next("HEAD", Reply(404, PAGE))
    proxy.break_next("GET /v2/", refuse(503))

    assert not client.has_blob("team/x", digest(b""))
    assert client.waits == [1]


@pytest.mark.parametrize("body", [b"hello", b"[]", b"\xff"])
def test_manifest_that_is_none(client, proxy, body):
    proxy.break_next("GET", Reply(200, {"Content-Type": "text/plain"}, body))

    with pytest.raises(ToolError, match="not a registry"):
        client.read_manifest("team/x", "1")


@pytest.mark.parametrize("headers", [{}, {"Location": "http://[bad"}])
def test_upload_that_leads_nowhere(client, proxy, headers):
    proxy.break_next("POST", Reply(202, headers))
    blob = make_blob()

    with pytest.raises(ToolError, match="not a registry"):
        client.send_blob("team/x", digest(blob), blob)


# where answers lead


def relative(_seen, answer):
    status, headers, body = answer
    if "Location" in headers:
        headers["Location"] = "/" + headers["Location"].split("/", 3)[3]
    return status, headers, body


def with_more(_seen, answer):
    status, headers, body = answer
    if "/uploads/" in headers.get("Location", ""):
        headers["Location"] += "&more=1&empty="
    return status, headers, body


@pytest.mark.parametrize("rewrite", [relative, with_more])
def test_address_of_an_upload(client, proxy, rewrite):
    proxy.rewrite = rewrite
    blob = make_blob()

    assert client.send_blob("faults/location", digest(blob), blob) == len(blob)
    assert "_state=" in proxy.seen[-1].path
    assert "digest=sha256%3A" in proxy.seen[-1].path


def test_address_of_an_upload_without_a_query(client, proxy):
    proxy.break_next("POST", Reply(202, {"Location": "/v2/team/x/blobs/uploads/1"}))
    proxy.break_next("PUT", Reply(201))
    blob = make_blob()

    client.send_blob("team/x", digest(blob), blob)

    assert proxy.seen[-1].path == f"/v2/team/x/blobs/uploads/1?digest=sha256%3A{digest(blob)[7:]}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_blob_on_another_host_is_read_without_our_login(client, proxy, status):
    blob = make_blob()
    with FaultProxy(0) as storage:
        storage.break_next("GET /far", Reply(200, {}, blob))
        client.has_blob("team/x", digest(blob))
        address = {"Location": f"http://{storage.server}/far?signature=abc"}
        proxy.break_next("GET", Reply(status, address))

        assert client.read_blob("team/x", digest(blob)) == blob

    assert "Authorization" in proxy.seen[-1].headers
    assert "Authorization" not in storage.seen[0].headers
    assert storage.seen[0].path == "/far?signature=abc"


def test_other_host_that_wants_a_login_does_not_get_ours(client, proxy):
    with FaultProxy(0) as storage:
        storage.break_next("GET", refuse(401, headers={"WWW-Authenticate": 'Basic realm="x"'}))
        proxy.break_next("GET", Reply(307, {"Location": f"http://{storage.server}/far?key=abc"}))

        with pytest.raises(ToolError, match="login") as caught:
            client.read_blob("team/x", digest(b""))

    assert len(storage.seen) == 1
    assert "Authorization" not in storage.seen[0].headers
    assert "abc" not in str(caught.value)


def test_redirect_on_the_same_host_keeps_the_login(client, proxy):
    blob = make_blob()
    client.send_blob("team/here", digest(blob), blob)
    url = f"/v2/team/here/blobs/{digest(blob)}"
    proxy.break_next("GET /v2/team/moved", Reply(307, {"Location": url}))

    assert client.read_blob("team/moved", digest(blob)) == blob


def test_redirects_that_never_end(client, proxy):
    proxy.break_next("HEAD", *[Reply(307, {"Location": "/v2/circle"})] * 9)

    with pytest.raises(ToolError, match="not a registry"):
        client.has_blob("team/x", digest(b""))


def test_harbors_cookie_is_not_sent_back(client, proxy):
    proxy.break_next("HEAD", Reply(404, {"Set-Cookie": "sid=1; Path=/"}))

    client.has_blob("team/x", digest(b""))
    client.has_blob("team/x", digest(b""))

    assert not any("Cookie" in seen.headers for seen in proxy.seen)


def test_break_in_the_middle_of_a_refusal(client, proxy, registry):
    page = {"Content-Type": "application/json", "Content-Length": "500"}
    target = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )
    client.has_blob("team/x", digest(b"none"))

    def break_off(exchange):
        exchange.reply(403, page, b"{")
        exchange.reset()

    proxy.break_next("GET", break_off)

    with pytest.raises(ToolError, match="not found in the registry"):
        target.copy_blob("team/x", digest(b"none"), client, "team/x")

    assert target.waits == [1]


def test_address_that_cannot_be_asked_is_not_shown(client, proxy):
    proxy.break_next("GET", Reply(307, {"Location": "http://[bad?signature=abc"}))

    with pytest.raises(ToolError) as caught:
        client.read_blob("team/x", digest(b""))

    assert "abc" not in str(caught.value)


def test_failure_while_something_else_is_handled_is_not_mixed_up():
    try:
        raise ValueError("something else")  # noqa: TRY301
    except ValueError:
        with pytest.raises(ToolError, match="host was not found") as caught:
            Client("registry.invalid").has_blob("x", digest(b""))

    assert "something else" not in str(caught.value)
