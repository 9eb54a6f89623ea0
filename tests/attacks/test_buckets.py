"""Attacks by everybody who can write to the bucket: keys, links, pipes. Only the target is written."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fftasks.config.tree import ObjectStoreSettings
from fftasks.errors import FFTasksError, SettingsError, ToolError
from fftasks.kfp.object_store import ArtifactURI, MountedBuckets, ObjectStore
from fftasks.path_validation import (
    check_path_name,
    explain_unsafe_name,
    join_untrusted,
    split_untrusted_path,
)

PLACE = "s3://results/runs/r1/t/result"
KEY = "runs/r1/t/result"

UNSAFE = [
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "..\\b",
    "a\0b",
    "a\nb",
    "a\x1b[2Jb",
    "a\x85b",
    "a\u2028b",
    "\ud800",
    "C:",
    "c:evil",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "..%2fetc",
    "%2e%2e%5cetc",
    "a%00b",
    "x" * 256,
    "é" * 128,
]
SAFE = [
    "a",
    "...",
    "..a",
    "a..",
    ".hidden",
    "a b",
    "ü",
    "day=2024-01-01T10:00",
    "100%",
    "a%2Fb",
    "x" * 255,
]


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_an_unsafe_name_is_refused_everywhere(name, tmp_path):
    assert explain_unsafe_name(name)
    with pytest.raises(ToolError, match="unsafe"):
        check_path_name(name, "name")
    with pytest.raises(ToolError, match="unsafe"):
        join_untrusted(tmp_path, "a", name)
    with pytest.raises(ToolError):
        ArtifactURI.parse("s3://bucket/key").join(name)


@pytest.mark.parametrize("name", SAFE)
def test_an_ordinary_name_is_a_part_of_a_path(name, tmp_path):
    assert join_untrusted(tmp_path, name) == tmp_path / name
    assert ArtifactURI.parse("s3://bucket/key").join(name).names == ("key", name)


@given(st.text())
@example("../x")
@example("a/../../x")
@example("/etc/passwd")
@example("a//b")
@example("a/")
@example("./a")
def test_whatever_the_path_it_stays_below_its_folder(path):
    folder = Path("/target/folder")
    try:
        names = split_untrusted_path(path)
    except ValueError:
        return
    assert "/".join(names) == path
    assert Path(os.path.normpath(folder.joinpath(*names))).is_relative_to(folder)
    assert os.path.normpath(folder.joinpath(*names)) == str(folder.joinpath(*names))


# from a store that speaks S3


@pytest.fixture(scope="module")
def s3():
    """Give a function that fills the bucket of a real server, and returns the store."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    host, port = server.get_host_and_port()
    reached = ObjectStoreSettings(
        endpoint=f"http://{host}:{port}", access_key="someone", secret_key="s3cret"
    )

    def fill(keys):
        if "results" in backend.buckets:
            backend.buckets["results"].keys.clear()
        else:
            backend.create_bucket("results", "us-east-1")
        for key, content in keys.items():
            backend.put_object("results", key, content)
        return ObjectStore(reached)

    yield fill
    server.stop()


@pytest.fixture
def project(tmp_path):
    """Give a folder with a file of the user's, in which results are kept three levels deeper."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project/flow.py").write_text("mine")
    return tmp_path / "project"


def list_all(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def fetch(store, project, place=PLACE):
    target = project / ".fftasks/cluster/result"
    store.fetch(ArtifactURI.parse(place), target)
    return target


def test_a_file_and_a_folder_are_downloaded(s3, project):
    assert fetch(s3({KEY: b"one"}), project).read_bytes() == b"one"

    keys = {f"{KEY}/a": b"1", f"{KEY}/b/c d": b"2", f"{KEY}/b/": b"", f"{KEY}-other": b"no"}
    target = fetch(s3(keys), project)

    assert list_all(target) == ["a", "b", "b/c d"]
    assert (target / "b/c d").read_bytes() == b"2"


def test_a_key_with_the_characters_of_a_pattern_is_one_file(s3, project):
    place = f"{PLACE}/a*[b]"
    keys = {f"{KEY}/a*[b]": b"right", f"{KEY}/axb": b"wrong", f"{KEY}/ab": b"wrong"}

    assert fetch(s3(keys), project, place).read_bytes() == b"right"
    assert (fetch(s3(keys), project) / "a*[b]").read_bytes() == b"right"


@pytest.mark.parametrize(
    "key",
    [
        "../../../flow.py",
        "a/../../../../flow.py",
        "a/..",
        "//etc/passwd",
        "/a",
        "a//b",
        "./a",
        "..\\..\\flow.py",
        "C:/flow.py",
        "a\nb",
        "%2e%2e/%2e%2e/flow.py",
    ],
)
def test_a_key_that_leads_out_of_the_artifact_is_refused_and_nothing_is_written(s3, project, key):
    before = list_all(project.parent)

    with pytest.raises(ToolError, match="cannot download") as caught:
        fetch(s3({f"{KEY}/good": b"1", f"{KEY}/{key}": b"theirs"}), project)

    assert "unsafe key" in str(caught.value)
    assert (project / "flow.py").read_text() == "mine"
    assert [name for name in list_all(project.parent) if name not in before] in (
        [],
        ["project/.fftasks", "project/.fftasks/cluster"],
    )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.text("a./\\%2eE:~ \n", min_size=1, max_size=12), min_size=1, max_size=3, unique=True
    )
)
@example([".."])
@example(["a", "a/b"])
@example(["../../flow.py"])
def test_whatever_the_keys_nothing_outside_of_the_target_changes(s3, tmp_path_factory, keys):
    project = tmp_path_factory.mktemp("p") / "project"
    project.mkdir()
    (project / "flow.py").write_text("mine")
    (project / ".fftasks/cluster").mkdir(parents=True)
    before = list_all(project.parent)

    try:
        target = fetch(s3({f"{KEY}/{key}": b"theirs" for key in keys}), project)
    except FFTasksError:
        target = None

    after = list_all(project.parent)
    inside = [name for name in after if name.startswith("project/.fftasks/cluster/result")]
    assert [name for name in after if name not in inside] == before
    assert (project / "flow.py").read_text() == "mine"
    if target is None:
        assert inside == []  # completely or not at all


def test_an_object_that_is_also_a_folder_is_refused(s3, project):
    with pytest.raises(ToolError, match="both an object and a folder"):
        fetch(s3({KEY: b"1", f"{KEY}/a": b"2"}), project)
    with pytest.raises(ToolError, match="the same name"):
        fetch(s3({f"{KEY}/a": b"1", f"{KEY}/a/b": b"2"}), project)


def test_names_that_the_file_system_does_not_tell_apart_are_refused(s3, project, monkeypatch):
    store, opened = s3({f"{KEY}/A": b"1", f"{KEY}/a": b"2"}), Path.open
    # as on a file system that ignores case
    monkeypatch.setattr(
        Path, "open", lambda self, *rest: opened(self.with_name(self.name.lower()), *rest)
    )

    with pytest.raises(ToolError, match="the same name"):
        fetch(store, project)


def test_too_many_files_are_refused(s3, project, monkeypatch):
    monkeypatch.setattr("fftasks.kfp.object_store._MAX_FILES", 2)

    with pytest.raises(ToolError, match="3 files") as caught:
        fetch(s3({f"{KEY}/{number}": b"" for number in range(3)}), project)
    assert "at most 2" in str(caught.value)


def test_a_folder_with_an_unsafe_name_hides_no_other(s3):
    keys = {
        "runs/r1/t/word/result": b"1",
        "runs/r1/t/../result": b"2",
        "runs/r1/t/a\\b/result": b"3",
    }

    found = s3(keys).list_folders(ArtifactURI.parse("s3://results/runs/r1/t"))

    assert list(map(str, found)) == ["s3://results/runs/r1/t/word"]


# from a store that is mounted as a folder


@pytest.fixture
def mount(tmp_path):
    """Give a folder with a bucket in it, beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").write_text("secret")
    (tmp_path / "mount/results/runs/r1/t").mkdir(parents=True)
    return tmp_path / "mount"


def fetch_mounted(mount, project, place=PLACE):
    return fetch(ObjectStore(ObjectStoreSettings(mount=str(mount))), project, place)


def test_a_mount_that_is_a_link_is_read(mount, project, tmp_path):
    (mount / KEY).parent.mkdir(exist_ok=True, parents=True)
    (mount / "results" / KEY).mkdir()
    (mount / "results" / KEY / "a").write_text("1")
    (tmp_path / "link").symlink_to(mount)

    assert (fetch_mounted(tmp_path / "link", project) / "a").read_text() == "1"


def test_a_file_in_place_of_the_folder_of_a_task_has_nothing_below_it(mount):
    (mount / "results" / KEY).write_text("1")
    store = ObjectStore(ObjectStoreSettings(mount=str(mount)))

    assert store.list_folders(ArtifactURI.parse(PLACE)) == []
    assert not store.has(ArtifactURI.parse(f"{PLACE}/x"))
    assert store.has(ArtifactURI.parse(PLACE))


def test_a_link_within_the_mount_is_read(mount, project):
    (mount / "results/other").write_text("1")
    (mount / "results" / KEY).symlink_to("../../../other")

    target = fetch_mounted(mount, project)

    assert target.read_text() == "1"
    assert not target.is_symlink()


def _link_file(top, mount):
    top.symlink_to(mount.parent / "secret")


def _link_folder(top, mount):
    top.symlink_to(mount.parent / "secrets")


def _link_upwards(top, mount):
    top.symlink_to("../../../../../secret")


def _link_inside(top, mount):
    top.mkdir()
    (top / "a").symlink_to(mount.parent / "secret")


def _link_folder_inside(top, mount):
    top.mkdir()
    (top / "a").symlink_to(mount.parent / "secrets")


def _link_above(top, mount):
    top.parent.rmdir()
    (mount.parent / "secrets/result").write_text("secret")
    top.parent.symlink_to(mount.parent / "secrets")


def _link_sibling(top, mount):
    """Lead to a folder whose path begins as that of the mount."""
    (mount.parent / "mount2").write_text("secret")
    top.symlink_to(mount.parent / "mount2")


def _link_to_itself(top, mount):
    top.symlink_to(top)


def _loop_inside(top, mount):
    top.mkdir()
    (top / "a").symlink_to(top)


def _pipe(top, mount):
    os.mkfifo(top)


def _pipe_inside(top, mount):
    top.mkdir()
    os.mkfifo(top / "a")


def _pipe_behind_a_link(top, mount):
    os.mkfifo(mount / "results/pipe")
    top.symlink_to(mount / "results/pipe")


def _socket(top, mount):
    top.mkdir()
    here = Path.cwd()
    os.chdir(top)  # the path of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a")
    os.chdir(here)


def _odd_name(top, mount):
    top.mkdir()
    (top / "a\\b").write_text("1")


def _no_text(top, mount):
    top.mkdir()
    Path(os.fsdecode(os.fsencode(top) + b"/\xff")).write_text("1")


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "attack",
    [
        *(_link_file, _link_folder, _link_upwards, _link_inside, _link_folder_inside, _link_above),
        *(_link_sibling, _link_to_itself, _loop_inside, _pipe, _pipe_inside, _pipe_behind_a_link),
        *(_socket, _odd_name, _no_text),
    ],
)
def test_what_is_no_file_of_the_mount_is_neither_read_nor_waited_for(attack, mount, project):
    attack(mount / "results" / KEY, mount)

    with pytest.raises(ToolError, match=r"object_store\.mount|cannot download"):
        fetch_mounted(mount, project)

    assert not list(project.rglob("result*"))
    assert not list(project.rglob(".result*"))


def test_a_bucket_that_is_a_link_out_of_the_mount_is_not_read(mount, project):
    (mount / "stolen").symlink_to(mount.parent / "secrets")

    with pytest.raises(ToolError, match="outside of"):
        fetch_mounted(mount, project, "s3://stolen/key")


def test_a_link_that_appears_while_a_file_is_opened_is_not_followed(mount, project, monkeypatch):
    top = mount / "results" / KEY
    top.write_text("1")
    resolve, copy = MountedBuckets._resolve_path, MountedBuckets.copy
    swaps = []

    def resolve_and_swap(self, path):
        real = resolve(self, path)
        if swaps:  # the last look at the path, before it is opened
            top.unlink()
            top.symlink_to(mount.parent / "secret")
            swaps.pop()
        return real

    def open_only(self, uri, name, target, most=0):
        swaps.append("once")
        return copy(self, uri, name, target, most)

    monkeypatch.setattr(MountedBuckets, "_resolve", lambda self, uri: top)
    monkeypatch.setattr(MountedBuckets, "_resolve_path", resolve_and_swap)
    monkeypatch.setattr(MountedBuckets, "copy", open_only)

    with pytest.raises(ToolError, match="cannot download"):
        fetch_mounted(mount, project)

    assert top.is_symlink()
    assert not list(project.rglob("result*"))


# URIs

REFUSED = [
    "/home/me/.ssh/id_rsa",
    "home/me/.ssh/id_rsa",
    "",
    "~/.ssh/id_rsa",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "https://example.org/x",
    "http://169.254.169.254/latest",
    "local:///etc/passwd",
    "memory://bucket/key",
    "simplecache::s3://bucket/key",
    "minio://../../../secret",
    "minio://",
    "minio:///etc/passwd",
    "minio://.",
    "minio://bucket/",
    "minio://bucket/a/",
    "minio://bucket//a",
    "minio://bucket/a/../../b",
    "minio://bucket/a/./b",
    "minio://bucket/%2e%2e/b",
    "minio://bucket/a%2f..%2fb",
    "minio://bucket/a\\..\\b",
    "minio://bu%2e%2e/b",
    "minio://bucket\\..\\x/b",
    "minio://user:password@host/b",
    "minio://a..b/key",
    "minio://bucket/a\0b",
    "minio://bucket/a\nb",
    "minio://bucket/a#/../b",
    "minio://bucket/a#1",
    " minio://bucket/a",
    "MINIO://bucket/a",
]


@pytest.mark.parametrize("uri", REFUSED, ids=ascii)
def test_a_uri_that_names_no_object_is_refused(uri):
    with pytest.raises(ToolError, match="invalid artifact URI"):
        ArtifactURI.parse(uri)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("minio://mlpipeline/v2/artifacts/p/r/t/o", "minio://mlpipeline/v2/artifacts/p/r/t/o"),
        (
            "s3://team.data-1/runs/o?provider=aws&endpoint=https%3A%2F%2Fx",
            "s3://team.data-1/runs/o",
        ),
        ("gs://bucket_1/a b/ü", "gs://bucket_1/a b/ü"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a?x=/../../y", "s3://bucket/a"),
    ],
)
def test_a_uri_of_kubeflow_pipelines_is_read_without_its_query(uri, place):
    assert str(ArtifactURI.parse(uri)) == place


@given(st.text(), st.sampled_from(["minio", "s3", "gs"]))
def test_whatever_the_uri_its_path_stays_below_a_mount(text, scheme):
    for uri in (text, f"{scheme}://{text}", f"{scheme}://bucket/{text}"):
        try:
            place = ArtifactURI.parse(uri)
        except ToolError:
            continue
        path = Path("/mount") / place.path
        assert os.path.normpath(path) == str(path)
        assert path.is_relative_to("/mount")
        assert ArtifactURI.parse(str(place)) == place


def test_below_a_root_is_meant_name_by_name():
    root = ArtifactURI.parse("s3://bucket/runs/team")

    assert ArtifactURI.parse("s3://bucket/runs/team/x").is_below(root)
    for outside in (
        *("s3://bucket/runs/team2/x", "s3://bucket/runs/team", "s3://bucket/runs"),
        *("minio://bucket/runs/team/x", "s3://bucket2/runs/team/x", "s3://bucket-/runs/team/x"),
    ):
        assert not ArtifactURI.parse(outside).is_below(root)
    assert ArtifactURI.parse("s3://bucket/x").is_below(ArtifactURI.parse("s3://bucket"))


def test_a_store_without_its_package_says_which_one(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)

    with pytest.raises(SettingsError, match="gs://"):
        ObjectStore(ObjectStoreSettings()).fetch(ArtifactURI.parse("gs://b/k"), tmp_path / "x")
