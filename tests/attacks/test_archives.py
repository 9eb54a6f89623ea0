"""Attacks by archives: what a container gave, packs and artifacts from a bucket, wheels, layers of a base."""

import contextlib
import gzip
import io
import json
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fftasks.errors import StoreError, ToolError
from fftasks.image import context, wheels
from fftasks.image import oci_builder as remote_base
from fftasks.image.archive import extract_archive
from fftasks.image.build_log import open_build_log
from fftasks.image.layers import LayerCache
from fftasks.image.recipe import ImageRecipe, collect_layer_contents
from fftasks.pipeline.download import extract_result
from fftasks.runner.artifact import (
    ARTIFACT_MAGIC,
    PACK_MAGIC,
    ArtifactLocation,
    Pack,
    StoredValue,
    _split,
    read_artifact,
    read_pack,
    write_artifact,
    write_pack,
)

KINDS = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "continuous file": tarfile.CONTTYPE,
}


def make_tar(*members):
    """Return an archive of (name, kind, content or name of the target)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.mode = KINDS[kind], 0o777
            if kind in ("file", "continuous file"):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content.decode()
                archive.addfile(info)
    return stream.getvalue()


def cut(content, size=1000):
    return [content[at : at + size] for at in range(0, len(content), size)]


@pytest.fixture
def target(tmp_path):
    """Give the folder of a replay, beside a secret, with an input that the container was given."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "replay/inputs").mkdir(parents=True)
    (tmp_path / "replay/inputs/x").write_text("input")
    (tmp_path / "replay/outputs").mkdir()
    return tmp_path / "replay"


def list_all(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


TOP = ("outputs/", "folder", b"")


def test_files_and_folders_are_extracted_from_pieces_of_any_size(target):
    big = bytes(range(256)) * 20_000
    members = [
        *(TOP, ("outputs/result", "file", big), ("outputs/a/b/c", "file", b"1")),
        *(("outputs/empty", "folder", b""), ("outputs/again", "hard link", b"outputs/result")),
        (f"outputs/{'n' * 200}", "file", b"long"),
    ]

    for number, size in enumerate((1 << 22, 1000, 7)):
        folder = target / f"{number}"
        folder.mkdir()
        extract_archive(
            cut(make_tar(*members) if size > 7 else make_tar(*members[2:4]), size),
            folder,
            "outputs",
        )

    found = list_all(target / "0/outputs")
    assert (found["result"], found["again"], found["a/b/c"]) == (big, big, b"1")
    assert found["n" * 200] == b"long"
    assert (target / "0/outputs/empty").is_dir()
    assert list_all(target / "1") == list_all(target / "0")
    assert (target / "2/outputs/a/b/c").read_text() == "1"


ATTACKS = {
    "upwards": [("../escaped", "file", b"theirs")],
    "upwards behind the top": [("outputs/../../escaped", "file", b"theirs")],
    "absolute": [("/tmp/fftasks-escaped", "file", b"theirs")],
    "two slashes": [("outputs//x", "file", b"theirs")],
    "another top": [("inputs/new", "file", b"theirs")],
    "what is there": [("inputs/x", "file", b"theirs")],
    "a top that begins so": [("outputs2/x", "file", b"theirs")],
    "a file for the top": [("outputs", "file", b"theirs")],
    "a link for the top": [("outputs", "symbolic link", b"/etc")],
    "no name": [("", "file", b"theirs")],
    "a point": [(".", "folder", b"")],
    "a backslash": [("outputs\\..\\..\\escaped", "file", b"theirs")],
    "a backslash inside": [("outputs/a\\b", "file", b"theirs")],
    "a line end": [("outputs/a\nb", "file", b"theirs")],
    "a drive": [("outputs/C:", "file", b"theirs")],
    "a link": [TOP, ("outputs/result", "symbolic link", b"../../secret")],
    "a link inside": [("outputs/a", "file", b"1"), ("outputs/b", "symbolic link", b"a")],
    "a file behind a link": [
        ("outputs/a", "symbolic link", b"../.."),
        ("outputs/a/escaped", "file", b"theirs"),
    ],
    "a hard link to a secret": [("outputs/result", "hard link", b"../secret")],
    "a hard link to an absolute path": [("outputs/result", "hard link", b"/etc/passwd")],
    "a hard link to an input": [("outputs/result", "hard link", b"inputs/x")],
    "a hard link to nothing": [("outputs/result", "hard link", b"outputs/no")],
    "a hard link to itself": [("outputs/result", "hard link", b"outputs/result")],
    "a hard link to a folder": [TOP, ("outputs/result", "hard link", b"outputs/")],
    "a pipe": [("outputs/result", "pipe", b"")],
    "a character device": [("outputs/result", "character device", b"")],
    "a block device": [("outputs/result", "block device", b"")],
    "twice": [("outputs/a", "file", b"1"), ("outputs/a", "file", b"2")],
    "a file, then a folder": [("outputs/a", "file", b"1"), ("outputs/a", "folder", b"")],
    "a folder, then a file": [("outputs/a", "folder", b""), ("outputs/a", "file", b"1")],
    "a file as a folder": [("outputs/a", "file", b"1"), ("outputs/a/b", "file", b"2")],
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_member_is_refused_and_nothing_else_changes(target, name):
    before = {
        n: c for n, c in list_all(target.parent).items() if not n.startswith("replay/outputs")
    }

    with pytest.raises(ToolError, match="an archive from a container"):
        extract_archive(cut(make_tar(*ATTACKS[name])), target, "outputs")

    after = {n: c for n, c in list_all(target.parent).items() if not n.startswith("replay/outputs")}
    assert after == before
    assert not any(path.is_symlink() for path in target.rglob("*"))
    assert b"secret" not in list_all(target / "outputs").values()


def test_a_name_in_a_pax_header_is_checked_as_any_other(target):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("outputs/fine")
        info.pax_headers = {"path": "../escaped"}
        archive.addfile(info)

    with pytest.raises(ToolError, match="unsafe member"):
        extract_archive([stream.getvalue()], target, "outputs")
    assert not (target.parent / "escaped").exists()


def _spoil(content, at, replacement):
    """Return an archive in which a field of the first header is another, and the checksum fits."""
    header = bytearray(content[:512])
    header[at : at + len(replacement)] = replacement
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


FILE = make_tar(("outputs/a", "file", b"x" * 2000))
DAMAGED = {
    "nothing": b"",
    "no archive": b"x" * 10_000,
    "cut in a header": FILE[:300],
    "cut in a file": FILE[:1000],
    "a negative size": _spoil(FILE, 124, b"\xff" * 12),
    "a size beyond all": _spoil(FILE, 124, b"\x80" + b"\x7f" * 11),
    "a size beyond the end": _spoil(FILE, 124, b"77777777777\0"),
    "a sparse file": _spoil(
        _spoil(FILE, 156, tarfile.GNUTYPE_SPARSE), 483, b"\x80" + b"\0" * 4 + b"\x7f" * 7
    ),
    "compressed": gzip.compress(FILE),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_is_refused(target, name):
    with pytest.raises(ToolError, match="an archive from a container"):
        extract_archive(cut(DAMAGED[name]), target, "outputs")


NAMES = st.lists(
    st.sampled_from(["outputs", "..", ".", "", "a", "b", "inputs", "a\\b", "~", "/"]), max_size=5
).map("/".join)
MEMBERS = st.tuples(NAMES, st.sampled_from(sorted(KINDS)), NAMES.map(str.encode))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MEMBERS, max_size=5))
@example([("outputs/a", "symbolic link", b".."), ("outputs/a/x", "file", b"x")])
def test_whatever_the_members_only_files_and_folders_below_the_top_are_made(
    tmp_path_factory, members
):
    folder = tmp_path_factory.mktemp("t") / "replay"
    folder.mkdir()

    with contextlib.suppress(ToolError):
        extract_archive([make_tar(*members)], folder, "outputs")

    made = [path.relative_to(folder.parent).parts for path in folder.parent.rglob("*")]
    assert all(parts[:2] in (("replay",), ("replay", "outputs")) for parts in made)
    kinds = {stat.S_IFMT(path.lstat().st_mode) for path in folder.rglob("*")}
    assert kinds <= {stat.S_IFREG, stat.S_IFDIR}


# packs


@pytest.fixture
def pack(tmp_path):
    """Give the path of a pack with two values."""
    values = {}
    for node in ("a", "b"):
        digest = write_artifact(tmp_path / node, [node] * 50)
        values[node, "result"] = StoredValue(ArtifactLocation(str(tmp_path / node)), digest)
    write_pack(tmp_path / "pack", Pack("g", "k", values))
    return tmp_path / "pack"


def write_index(pack, change):
    """Write a pack with another index, and the same values behind it."""
    content = pack.read_bytes()
    (length,) = struct.unpack_from("<Q", content, 8)
    head = change(json.loads(content[16 : 16 + length]))
    index = head if isinstance(head, bytes) else json.dumps(head).encode()
    index += b" " * (-(16 + len(index)) % 64)
    pack.write_bytes(struct.pack("<8sQ", PACK_MAGIC, len(index)) + index + content[16 + length :])


def place(node, *where):
    def change(head):
        head["values"][node]["result"][:2] = where
        return head

    return change


INDEXES = {
    "before the file": place("a", -1000, 64),
    "before the values": place("a", -64, 64),
    "beyond the end": place("b", 1 << 20, 64),
    "too long": place("b", 512, 1 << 40),
    "to the end": place("b", 512, -1),
    "over each other": place("b", 0, 100),
    "a number that is none": place("a", 1.5, 64),
    "a text": place("a", "0", 64),
    "nothing": place("a", None, 64),
    "no index": lambda _: b"{",
    "no mapping": lambda _: [],
    "nothing in it": lambda _: {},
    "a list of values": lambda head: {**head, "values": []},
    "a list of outputs": lambda head: {**head, "values": {"a": [1]}},
    "one number": lambda head: {**head, "values": {"a": {"result": [1]}}},
    "depth": lambda _: b"[" * 200_000,
    "no text": lambda _: b"\xff\xfe",
    "told a number": lambda head: {**head, "told": 5},
}


def test_a_pack_gives_its_values(pack):
    assert read_artifact(extract_result(pack, "a")) == ["a"] * 50
    assert read_pack(pack).values["b", "result"].place.read() == ["b"] * 50


@pytest.mark.parametrize("name", INDEXES)
def test_a_pack_with_a_hostile_index_is_refused(pack, name):
    write_index(pack, INDEXES[name])

    with pytest.raises(StoreError, match="not a pack of fftasks"):
        extract_result(pack, "a")


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_a_pack_that_claims_a_long_index_takes_no_memory(pack, length):
    pack.write_bytes(struct.pack("<8sQ", PACK_MAGIC, length) + pack.read_bytes()[16:])

    tracemalloc.start()
    try:
        with pytest.raises(StoreError, match="not a pack of fftasks"):
            read_pack(pack)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_node_of_a_pack_cannot_name_a_file(pack):
    def rename(head):
        head["values"]["../../../escaped"] = head["values"].pop("a")
        return head

    write_index(pack, rename)

    path = extract_result(pack, "../../../escaped")

    assert path.parent == pack.parent
    assert read_artifact(path) == ["a"] * 50


# artifacts


def make_artifact(*table, count=None, content=b"\x80\x05N."):
    count = len(table) // 2 if count is None else count
    head = struct.pack(f"<8sQ{len(table)}Q", ARTIFACT_MAGIC, count, *table)
    return head + bytes(-len(head) % 64) + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        ARTIFACT_MAGIC,
        make_artifact(count=0),
        make_artifact(64, 4, count=1 << 40),
        make_artifact(64, 4, count=1 << 63),
        make_artifact(64, 4, count=(1 << 64) - 1),
        make_artifact(64, 4, count=3),
        make_artifact(64, 5),
        make_artifact(64, 1 << 63),
        make_artifact((1 << 64) - 1, 1),
        make_artifact(0, 4),
        make_artifact(31, 4),
        make_artifact(64, 4, 64, 4),
        make_artifact(66, 2, 64, 2),
        make_artifact(64, 3, 66, 1),
    ],
    ids=lambda content: content[8:48].hex(),
)
def test_an_artifact_with_a_hostile_table_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(StoreError, match="not an artifact of fftasks"):
        read_artifact(tmp_path / "a")


@given(st.binary(max_size=200), st.integers(0, (1 << 64) - 1))
def test_whatever_the_table_parts_are_in_the_file_and_apart(rest, count):
    for number in (count, count % 8):
        content = ARTIFACT_MAGIC + struct.pack("<Q", number) + rest
        try:
            parts = _split(memoryview(content))
        except (ValueError, struct.error):
            continue
        assert sum(map(len, parts)) + 16 + 16 * number <= len(content)


# wheels


def write_wheel(path, *more):
    """Write a wheel with members (name, content, mode) besides its own."""
    info = "tiny-1.0.dist-info"
    members = [
        ("tiny.py", b"version = 1\n", 0o100644),
        (f"{info}/METADATA", b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n", 0o100644),
        (
            f"{info}/WHEEL",
            b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            0o100644,
        ),
        *more,
    ]
    record = "".join(f"{name},,\n" for name, *_ in members) + f"{info}/RECORD,,\n"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content, mode in (*members, (f"{info}/RECORD", record.encode(), 0o100644)):
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, content)


@pytest.mark.parametrize(
    ("name", "content", "mode"),
    [
        ("stolen.py", b"{secret}", stat.S_IFLNK | 0o777),
        ("stolen", b"{secret}", stat.S_IFLNK | 0o777),
        ("../../escaped.py", b"theirs", 0o100644),
        ("tiny-1.0.data/data/../../../escaped.py", b"theirs", 0o100644),
        ("/tmp/fftasks-escaped.py", b"theirs", 0o100644),
        ("pipe.py", b"", stat.S_IFIFO | 0o644),
    ],
)
@pytest.mark.timeout(60)
def test_a_hostile_wheel_reads_and_writes_nothing_of_this_machine(tmp_path, name, content, mode):
    (tmp_path / "secret").write_text("private key")
    content = content.replace(b"{secret}", str(tmp_path / "secret").encode())
    root = tmp_path / "project"
    root.mkdir()
    write_wheel(root / "wheels/tiny-1.0-py3-none-any.whl", (name, content, mode))
    (root / "wf.py").write_text("")
    (root / "requirements.txt").write_text("./wheels/tiny-1.0-py3-none-any.whl\n")
    copy, log = root / ".fftasks/context", root / ".fftasks/logs/image.txt"
    recipe = ImageRecipe(
        context.copy_context(root, copy), copy, "base", "linux/amd64", ("wf.py",), runtime=""
    )
    blobs = LayerCache(root / ".fftasks/layers")
    target = wheels.WheelTarget("base", "linux/amd64", "3.11")
    before = set(tmp_path.rglob("*escaped*"))

    blob = None
    with contextlib.suppress(ToolError), open_build_log(log, {}) as lines:
        blob = wheels.install_wheels(recipe, collect_layer_contents(recipe), target, blobs, lines)

    assert set(tmp_path.rglob("*escaped*")) - before <= set((root / ".fftasks").rglob("*"))
    assert not Path("/tmp/fftasks-escaped.py").exists()
    if blob is not None:
        assert b"private key" not in gzip.decompress(blobs.path(blob.digest).read_bytes())


def test_a_link_that_an_installer_left_is_not_put_into_the_image(tmp_path):
    (tmp_path / "secret.py").write_text("private key")
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "real.py").write_text("x = 1")
    (folder / "same.py").symlink_to("real.py")
    os.mkfifo(folder / "pipe")
    assert [entry.path for entry in wheels._list_files(folder)] == ["real.py", "same.py"]

    for target in (tmp_path / "secret.py", tmp_path, tmp_path / "installed2"):
        (folder / "stolen").symlink_to(target)
        with pytest.raises(ToolError, match="symbolic link 'stolen'"):
            list(wheels._list_files(folder))
        (folder / "stolen").unlink()


# layers of a base


class Layers:
    """A registry that has layers only."""

    def __init__(self, layers):
        self._layers = layers

    @contextlib.contextmanager
    def open_blob(self, _repository, digest):
        yield io.BytesIO(self._layers[digest])


PACKED = gzip.compress(make_tar(("usr/bin/python3.11", "file", b"x")))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 1000,
        PACKED[:40],
        PACKED[:60] + bytes(20) + PACKED[80:],
        gzip.compress(FILE[:300]),
        gzip.compress(DAMAGED["a negative size"]),
        gzip.compress(DAMAGED["a size beyond all"]),
        b"BZh9" + b"x" * 100,
        b"\xfd7zXZ\0" + b"x" * 100,
    ],
    ids=range(9),
)
def test_a_damaged_layer_of_a_base_is_an_error_that_says_what_to_do(content):
    with pytest.raises(ToolError, match="cannot be read") as caught:
        list(remote_base._list_paths(Layers({"sha256:1": content}), "base", "sha256:1"))

    assert "image.python" in caught.value.tip


def test_names_of_a_base_are_only_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = gzip.compress(
        make_tar(("../escaped", "file", b""), ("usr/bin/python3.11", "pipe", b""))
    )

    found = list(remote_base._list_paths(Layers({"sha256:1": layer}), "base", "sha256:1"))

    assert found == ["../escaped", "usr/bin/python3.11"]
    assert not list(tmp_path.parent.glob("*escaped*"))
