"""Manifests and blobs, with a real registry that wants a password."""

from __future__ import annotations

import io
import tracemalloc

import pytest

from fftasks.errors import StoreError, ToolError
from fftasks.registry import oci_registry as registry_transfer
from fftasks.registry.oci_registry import ImageManifest
from fftasks.registry.registry_auth import RegistryLogin
from tests.services.fault_proxy import Reply, refuse
from tests.services.registry_client import IMAGE, Client, digest, make_blob, make_manifest

NOWHERE = digest(b"nowhere")


# manifests


def test_manifest_comes_back_byte_by_byte(client, registry):
    blob = make_blob()
    client.push("team/there", blob)

    found = client.read_manifest("team/there", "1")

    assert found == make_manifest(blob)
    assert client.read_manifest("team/there", found.digest) == found
    assert registry.list_tags("team/there") == ["1"]


def test_manifest_that_is_not_there(client):
    with pytest.raises(ToolError, match="team/nothing:1 cannot be read") as caught:
        client.read_manifest("team/nothing", "1")

    assert "not found in the registry" in str(caught.value)
    assert client.said == []


def test_tag_that_is_not_there(client):
    client.push("team/tags", make_blob())

    with pytest.raises(ToolError, match="not found in the registry"):
        client.read_manifest("team/tags", "2")


def test_digest_of_a_tag_and_of_a_digest(client):
    blob = make_blob()
    client.push("team/find", blob)

    assert client.find_digest("team/find", "1") == make_manifest(blob).digest
    assert client.find_digest("team/find", make_manifest(blob).digest) == make_manifest(blob).digest


def test_digest_of_what_is_not_there_is_none(client):
    client.push("team/gone", make_blob())

    assert client.find_digest("team/gone", "2") is None
    assert client.find_digest("team/gone", NOWHERE) is None
    assert client.find_digest("team/never", "1") is None


def test_digest_is_computed_where_the_registry_does_not_say_it(client, proxy):
    blob = make_blob()
    client.push("team/silent", blob)

    def rewrite(_seen, answer):
        status, headers, body = answer
        return status, {k: v for k, v in headers.items() if k != "Docker-Content-Digest"}, body

    proxy.rewrite = rewrite

    assert client.find_digest("team/silent", "1") == make_manifest(blob).digest


def test_deleted_image_is_not_found(client, registry):
    blob = make_blob()
    client.push("team/deleted", blob)

    registry.delete("team/deleted", make_manifest(blob).digest)

    assert client.find_digest("team/deleted", make_manifest(blob).digest) is None


def test_manifest_of_another_digest_is_refused(client, proxy):
    blob = make_blob()
    client.push("team/other", blob)
    proxy.break_next("GET", Reply(200, {"Content-Type": IMAGE}, b"{}"))

    with pytest.raises(ToolError, match="has a different digest") as caught:
        client.read_manifest("team/other", make_manifest(blob).digest)

    assert digest(b"{}") in str(caught.value)


def test_manifest_whose_blobs_are_missing_is_refused(client):
    with pytest.raises(ToolError, match="was not accepted") as caught:
        client.write_manifest("team/early", "1", make_manifest(make_blob()))

    assert "blob unknown" in str(caught.value)


def test_manifest_that_the_registry_changed_is_refused(client, proxy):
    proxy.break_next("PUT", Reply(201, {"Docker-Content-Digest": NOWHERE}))

    with pytest.raises(ToolError, match="was changed by the registry"):
        client.write_manifest("team/changed", "1", ImageManifest(IMAGE, b"{}", digest(b"{}")))


# blobs


def test_blob_is_sent_once(client):
    blob = make_blob()

    assert client.send_blob("team/once", digest(blob), blob) == len(blob)
    assert client.send_blob("team/once", digest(blob), blob) == 0
    assert client.has_blob("team/once", digest(blob))
    assert client.read_blob("team/once", digest(blob)) == blob


def test_blob_that_is_not_there(client):
    assert not client.has_blob("team/once", NOWHERE)
    with pytest.raises(ToolError, match="not found in the registry"):
        client.read_blob("team/once", NOWHERE)


def test_file_is_sent(client, tmp_path):
    path = tmp_path / "layer"
    path.write_bytes(make_blob(300_000))

    sent = client.send_blob("team/file", digest(path.read_bytes()), path)

    assert sent == 300_000
    assert client.read_blob("team/file", digest(path.read_bytes())) == path.read_bytes()


def test_empty_blob_is_sent(client, tmp_path):
    (tmp_path / "empty").touch()

    assert client.send_blob("team/empty", digest(b""), tmp_path / "empty") == 0
    assert client.has_blob("team/empty", digest(b""))


def test_big_file_is_not_held_in_memory(registry, tmp_path):
    # without the proxy, which is in this process
    client = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )
    path = tmp_path / "layer"
    path.write_bytes(make_blob(2_000_000) * 10)
    name = digest(path.read_bytes())
    client.has_blob("team/big", name)  # imports take memory too

    tracemalloc.start()
    try:
        sent = client.send_blob("team/big", name, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sent == 20_000_000
    assert peak < 2_000_000


def test_blob_of_another_digest_is_refused(client):
    with pytest.raises(ToolError, match="cannot be sent") as caught:
        client.send_blob("team/wrong", NOWHERE, make_blob())

    assert "DIGEST_INVALID" in str(caught.value)
    assert not client.has_blob("team/wrong", NOWHERE)


def test_file_that_is_gone(client, tmp_path):
    with pytest.raises(StoreError, match="cannot be sent") as caught:
        client.send_blob("team/gone", NOWHERE, tmp_path / "gone")

    assert "gone" in str(caught.value)


def test_blob_that_ends_too_early_is_an_error():
    body = registry_transfer.BlobStream(io.BytesIO(b"12").read, 3, "layer")

    assert body.read(10) == b"12"
    with pytest.raises(StoreError, match="layer cannot be sent"):
        body.read(10)


def test_blob_that_was_changed_on_the_way_is_refused(client, proxy):
    blob = make_blob()
    client.send_blob("team/read", digest(blob), blob)
    proxy.break_next("GET", Reply(200, {}, b"other"))

    with pytest.raises(ToolError, match="has a different digest"):
        client.read_blob("team/read", digest(blob))


# blobs that are elsewhere


def test_blob_of_another_repository_is_mounted(client, proxy):
    blob = make_blob()
    client.send_blob("team/source", digest(blob), blob)
    before = sum(seen.size for seen in proxy.seen)

    assert client.mount_blob("team/target", digest(blob), "team/source")

    assert client.has_blob("team/target", digest(blob))
    assert sum(seen.size for seen in proxy.seen) == before


def test_blob_that_cannot_be_mounted_leaves_no_upload(client, proxy, registry):
    assert not client.mount_blob("team/unmounted", NOWHERE, "team/source")

    assert [seen.method for seen in proxy.seen][-2:] == ["POST", "DELETE"]
    uploads = registry.folder / "storage/docker/registry/v2/repositories/team/unmounted/_uploads"
    assert not list(uploads.rglob("data"))


def test_registry_that_does_not_let_one_mount(client, proxy):
    proxy.break_next("POST .*mount=", refuse(403, "DENIED", "no"))

    assert not client.mount_blob("team/target", NOWHERE, "secret/source")


def test_blob_is_copied_from_another_host(client, registry, proxy):
    blob = make_blob(300_000)
    client.send_blob("team/base", digest(blob), blob)
    login = RegistryLogin(registry.server, registry.username, registry.password)
    target = Client(registry.server, login)

    sent = target.copy_blob("team/copy", digest(blob), client, "team/base")

    assert sent == len(blob)
    assert target.copy_blob("team/copy", digest(blob), client, "team/base") == 0
    assert target.read_blob("team/copy", digest(blob)) == blob
    assert proxy.count("GET .*/blobs/") == 1


def test_empty_blob_is_copied(client, registry):
    client.send_blob("team/base", digest(b""), b"")
    target = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )

    assert target.copy_blob("team/copy-empty", digest(b""), client, "team/base") == 0
    assert target.has_blob("team/copy-empty", digest(b""))


def test_copy_names_the_registry_that_has_no_such_blob(client, registry):
    target = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )

    with pytest.raises(ToolError, match="not found in the registry") as caught:
        target.copy_blob("team/copy", NOWHERE, client, "team/base")

    assert f"{client.host}/team/base@{NOWHERE} cannot be copied to {target.host}" in str(
        caught.value
    )


def test_copy_blames_the_login_at_the_source(proxy, registry):
    source = Client(proxy.server, RegistryLogin(proxy.server, "bob", "hunter2"))
    target = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )

    with pytest.raises(ToolError, match="does not accept the login") as caught:
        target.copy_blob("team/copy", NOWHERE, source, "team/base")

    assert "'bob'" in caught.value.tip
    assert "hunter2" not in str(caught.value)


def test_source_that_does_not_say_how_long_a_blob_is(client, proxy, registry):
    blob = make_blob()
    client.send_blob("team/base", digest(blob), blob)
    target = Client(
        registry.server, RegistryLogin(registry.server, registry.username, registry.password)
    )
    proxy.break_next("GET", Reply(200, {"Content-Length": "unknown"}))

    with pytest.raises(ToolError, match="not a registry"):
        target.copy_blob("team/copy", digest(blob), client, "team/base")


# how much is asked


def test_unchanged_image_costs_a_look_at_each_blob_and_the_manifest(client, proxy):
    blobs = [make_blob(), make_blob()]
    first = client.push("team/unchanged", *blobs)
    proxy.seen.clear()

    sent = client.push("team/unchanged", *blobs)

    assert first == [1000, 1000, 2]
    assert sent == [0, 0, 0]
    assert [seen.method for seen in proxy.seen] == ["HEAD", "HEAD", "HEAD", "PUT"]


def test_only_the_first_request_is_asked_for_a_login(client, proxy):
    client.push("team/login", make_blob())

    with_login = ["Authorization" in seen.headers for seen in proxy.seen]
    assert with_login == [False] + [True] * (len(with_login) - 1)


def test_engine_finds_what_was_sent(client, registry, engine):
    """An engine takes what this client put there: same protocol, same media types."""
    blob = make_blob()
    client.push("team/pull", blob)

    found = engine.api.inspect_distribution(
        f"{registry.server}/team/pull:1", auth_config=registry.credentials
    )

    assert found["Descriptor"]["digest"] == make_manifest(blob).digest
