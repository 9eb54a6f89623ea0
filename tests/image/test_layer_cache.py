"""Layers are made once for what decides them, and always give the same bytes."""

from __future__ import annotations

import gzip

import pytest

from fftasks.image.layers import LayerCache, make_file_entry
from fftasks.records import digest_bytes


@pytest.fixture
def blobs(tmp_path) -> LayerCache:
    return LayerCache(tmp_path / "layers")


def test_a_layer_is_named_by_its_archive_and_by_its_compressed_form(blobs):
    blob = blobs.make_layer([make_file_entry("a", b"1")], root="ffrun")

    data = blobs.path(blob.digest).read_bytes()
    assert (digest_bytes(data), len(data)) == (blob.digest, blob.size)
    assert digest_bytes(gzip.decompress(data)) == blob.diff_id


def test_another_folder_gives_the_same_bytes(blobs, tmp_path):
    entries = [make_file_entry("a", b"1" * 5000), make_file_entry("b", b"2")]

    one = blobs.make_layer(entries, root="ffrun")
    other = LayerCache(tmp_path / "other").make_layer(entries[::-1], root="ffrun")

    assert one == other


def test_a_layer_is_made_once(blobs):
    blobs.make("sha256:1", lambda out: out.write(b"x"))

    def fail(_out):
        raise AssertionError

    assert blobs.make("sha256:1", fail) == blobs.find("sha256:1")


@pytest.mark.parametrize("damage", [b"", None])
def test_a_damaged_layer_is_made_again(blobs, damage):
    blob = blobs.make("sha256:1", lambda out: out.write(b"x"))
    path = blobs.path(blob.digest)
    path.unlink() if damage is None else path.write_bytes(damage)

    assert blobs.find("sha256:1") is None
    assert blobs.make("sha256:1", lambda out: out.write(b"x")) == blob
    assert path.stat().st_size == blob.size


def test_what_fails_leaves_nothing(blobs):
    def fail(out):
        out.write(b"x")
        raise OSError

    with pytest.raises(OSError):
        blobs.make("sha256:1", fail)

    assert list(blobs.folder.iterdir()) == []


def test_what_is_not_used_any_more_is_removed(blobs):
    old, new = (blobs.make(f"sha256:{k}", lambda out, k=k: out.write(b"%d" % k)) for k in (1, 2))
    kept = blobs.put(b"manifest")
    (blobs.folder / ".unfinished").write_bytes(b"")

    blobs.remove_others([new.digest, kept])

    assert blobs.find("sha256:1") is None
    assert blobs.find("sha256:2") == new
    assert blobs.has(kept)
    assert len(list(blobs.folder.iterdir())) == 3
    assert not blobs.has(old.digest)
