"""The copy of the project's folder: what gets in, what is copied again, and what is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from fftasks.config import ContextSettings
from fftasks.config.ignore import ContextError, read_ignore, walk_context
from fftasks.errors import SettingsError, StoreError
from fftasks.image import context
from fftasks.image import sync as mirror
from fftasks.records import digest_bytes, read_record, write_record
from tests.image.sample_files import write

LONG_AGO_NS = 10**18


def list_files(record) -> list[str]:
    return [path for path, *_ in record["files"]]


def list_copies(target: Path) -> list[str]:
    found = (path for path in target.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(str(path.relative_to(target)) for path in found)


def keep_stat(path: Path, text: str) -> None:
    """Write a file and set its times back; ctime cannot be."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that everybody may use, which pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


# what gets in


def test_record_has_path_size_digest_and_mode(folder, target):
    (folder / "sums.py").chmod(0o700)

    record = context.copy_context(folder, target)

    assert record["files"] == [
        ["data/table.csv", 4, digest_bytes(b"1,2\n"), False],
        ["sums.py", 6, digest_bytes(b"a = 1\n"), True],
    ]
    assert record["size_bytes"] == 10
    assert record["stage"] == "context"


def test_copy_has_content_and_mode(folder, target):
    (folder / "sums.py").chmod(0o700)

    context.copy_context(folder, target)

    assert (target / "sums.py").read_text() == "a = 1\n"
    assert (target / "sums.py").stat().st_mode & 0o777 == 0o755
    assert (target / "data/table.csv").stat().st_mode & 0o777 == 0o644


def test_record_survives_being_written_and_read(folder, target, tmp_path):
    write(folder / os.fsdecode(b"not-utf8-\xff"))
    record = context.copy_context(folder, target)

    write_record(tmp_path / "context.json", record)

    assert read_record(tmp_path / "context.json") == record


def test_two_folders_of_the_same_content_have_one_record(folder, target, tmp_path):
    twin = tmp_path / "elsewhere" / "twin"
    shutil.copytree(folder, twin)
    for path in twin.rglob("*"):
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))

    assert context.copy_context(twin, twin / ".fftasks/context") == context.copy_context(
        folder, target
    )


@pytest.mark.parametrize("name", [".git/config", "sub/.git", ".fftasks/doit.sqlite3"])
def test_never_in_even_if_asked_for(folder, target, name):
    write(folder / name)
    write(folder / ".dockerignore", "!.git\n!**/.git\n!.fftasks\n")

    record = context.copy_context(folder, target)

    assert name not in list_files(record)


@pytest.mark.parametrize(
    "name",
    [
        "__pycache__/sums.pyc",
        "sub/__pycache__/x",
        "old.pyc",
        ".mypy_cache/x",
        ".pytest_cache/x",
        ".ruff_cache/x",
        "sub/.ipynb_checkpoints/x",
    ],
)
def test_leavings_of_tools_stay_out(folder, target, name):
    write(folder / name)

    assert name not in list_files(context.copy_context(folder, target))


@pytest.mark.parametrize("name", ["venv", ".venv", "tools/any name"])
def test_virtual_environment_stays_out(folder, target, name):
    write(folder / name / "pyvenv.cfg")
    write(folder / name / "lib/x.py")

    assert f"{name}/lib/x.py" not in list_files(context.copy_context(folder, target))


def test_folder_that_is_only_named_venv_gets_in(folder, target):
    write(folder / "venv/x.py")

    assert "venv/x.py" in list_files(context.copy_context(folder, target))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("!__pycache__", "__pycache__/x"),
        ("!**/__pycache__", "src/__pycache__/x"),
        ("!src/__pycache__/**", "src/__pycache__/x.pyc"),
        ("!**/__pycache__", "src/__pycache__/x.pyc"),
        ("!**/*.pyc", "src/old.pyc"),
        ("!src/old.pyc", "src/old.pyc"),
        ("!src/venv", "src/venv/lib/x.py"),
    ],
)
def test_exception_that_names_a_cache_takes_it_in(folder, target, line, name):
    write(folder / "src/venv/pyvenv.cfg")
    write(folder / name)
    write(folder / ".dockerignore", f"{line}\n")

    assert name in list_files(context.copy_context(folder, target))


@pytest.mark.parametrize("line", ["!src", "!src/**", "!**/*", "!**/*.py"])
def test_exception_for_a_folder_does_not_bring_its_cache_back(folder, target, line):
    write(folder / "src/__pycache__/x.py")
    write(folder / "src/x.py")
    write(folder / ".dockerignore", f"src\n{line}\n")

    assert "src/__pycache__/x.py" not in list_files(context.copy_context(folder, target))


def test_dockerignore_and_extra_lines_are_one_list(folder, target):
    write(folder / ".dockerignore", "*.csv\n**/*.csv\n.dockerignore\n")

    record = context.copy_context(
        folder, target, ContextSettings(ignore=("!data/table.csv", "sums.py"))
    )

    assert list_files(record) == ["data/table.csv"]


def test_extra_line_that_is_no_pattern_is_named(folder, target):
    with pytest.raises(SettingsError, match=r"context\.ignore line 2"):
        context.copy_context(folder, target, ContextSettings(ignore=("a", "[")))


def test_names_of_all_kinds_are_copied(folder, target):
    names = [
        "with space",
        "line\nbreak",
        "é",
        os.fsdecode(b"\xff\xfe"),
        "back\\slash",
        "[a]*?",
        "-r",
    ]
    for name in names:
        write(folder / "odd" / name, "x")

    record = context.copy_context(folder, target)

    assert {path for path in list_files(record) if path.startswith("odd/")} == {
        f"odd/{name}" for name in names
    }
    assert all((target / "odd" / name).read_text() == "x" for name in names)


def test_empty_folder_is_kept(folder, target):
    (folder / "out/empty").mkdir(parents=True)

    record = context.copy_context(folder, target)

    assert record["folders"] == ["out/empty"]
    assert (target / "out/empty").is_dir()


def test_folder_with_nothing_to_take_is_an_empty_one(folder, target):
    write(folder / "out/x.log")
    write(folder / ".dockerignore", "**/*.log\n")

    assert context.copy_context(folder, target)["folders"] == ["out"]


# links and what is no file


def test_link_inside_stays_a_link(folder, target):
    (folder / "data/again.csv").symlink_to("table.csv")
    (folder / "up.csv").symlink_to("data/../data/table.csv")
    (folder / "folder").symlink_to("data")

    record = context.copy_context(folder, target)

    assert record["links"] == [
        ["data/again.csv", "table.csv"],
        ["folder", "data"],
        ["up.csv", "data/../data/table.csv"],
    ]
    assert str((target / "up.csv").readlink()) == "data/../data/table.csv"


def test_link_to_nothing_stays_a_link(folder, target):
    (folder / "later").symlink_to("not/made/yet")

    assert context.copy_context(folder, target)["links"] == [["later", "not/made/yet"]]


def test_absolute_link_inside_becomes_relative(folder, target):
    (folder / "data/code").symlink_to(folder / "sums.py")

    assert context.copy_context(folder, target)["links"] == [["data/code", "../sums.py"]]


def test_link_that_comes_back_in_becomes_short(folder, target):
    (folder / "code").symlink_to("../project/sums.py")

    assert context.copy_context(folder, target)["links"] == [["code", "sums.py"]]


@pytest.mark.parametrize("to", ["/etc/passwd", "../elsewhere", ".."])
def test_link_out_is_refused(folder, target, to):
    (folder / "data/out").symlink_to(to if to[0] == "/" else f"../{to}")

    with pytest.raises(ContextError, match="'data/out' leaves the project's folder"):
        context.copy_context(folder, target)


def test_link_out_by_way_of_a_link_is_refused(folder, target):
    (folder / "a").symlink_to("b/x")
    (folder / "b").symlink_to("/etc")
    write(folder / ".dockerignore", "b\n")

    with pytest.raises(ContextError, match="'a' leaves"):
        context.copy_context(folder, target)


def test_link_out_that_is_ignored_is_no_error(folder, target):
    (folder / "out").symlink_to("/etc")
    write(folder / ".dockerignore", "out\n")

    assert context.copy_context(folder, target)["links"] == []


def test_links_in_a_circle_stay_links(folder, target):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")

    assert context.copy_context(folder, target)["links"] == [["a", "b"], ["b", "a"]]


def test_sockets_and_pipes_are_left_out_and_named(folder, target, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder / ".dockerignore", "ignored\n")
    before = context.copy_context(folder, target)
    for name in ("pipe", "ignored"):
        os.mkfifo(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("data/socket")

        record = context.copy_context(folder, target)

    assert list_files(record) == [".dockerignore", "data/table.csv", "sums.py"]
    assert record["left_out"] == [["data/socket", "socket"], ["pipe", "pipe"]]
    assert record["output"] == before["output"]
    assert context.list_context_reasons(folder, target, previous=before) == []
    assert context.list_context_reasons(folder, target, previous={**before, "output": "x"}) != []


def test_what_goes_away_while_it_is_listed_takes_nothing_with_it(folder, monkeypatch):
    write(folder / "data/a.tmp")
    scan = os.scandir

    def scan_and_lose(path):
        with scan(path) as entries:
            kept = sorted(entries, key=lambda entry: entry.name)
        if any(entry.name == "a.tmp" for entry in kept):
            (folder / "data/a.tmp").unlink()
        return nullcontext(kept)

    monkeypatch.setattr(os, "scandir", scan_and_lose)

    assert "data/table.csv" in walk_context(folder, read_ignore(folder)).files


def test_unreadable_file_is_named(open_folder):
    write(open_folder / "secret.txt").chmod(0)

    with as_nobody(), pytest.raises(ContextError, match=r"'secret\.txt' cannot be read") as caught:
        context.copy_context(open_folder, open_folder / ".fftasks/context")

    assert "Permission denied" in str(caught.value)


def test_unreadable_file_that_is_ignored_is_no_error(open_folder):
    write(open_folder / "secret.txt").chmod(0)
    write(open_folder / ".dockerignore", "secret.txt\n").chmod(0o644)

    with as_nobody():
        record = context.copy_context(open_folder, open_folder / ".fftasks/context")

    assert list_files(record) == [".dockerignore"]


def test_unreadable_folder_is_named(open_folder):
    (open_folder / "closed").mkdir(mode=0)

    with as_nobody(), pytest.raises(ContextError, match="'closed' cannot be read"):
        context.copy_context(open_folder, open_folder / ".fftasks/context")


def test_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ContextError, match="nowhere"):
        context.copy_context(tmp_path / "nowhere", tmp_path / "context")


def test_unreadable_dockerignore_is_named(open_folder):
    write(open_folder / ".dockerignore").chmod(0)

    with as_nobody(), pytest.raises(ContextError, match="dockerignore"):
        context.copy_context(open_folder, open_folder / ".fftasks/context")


# keeping the copy up to date


def test_second_time_changes_nothing(folder, target):
    record = context.copy_context(folder, target)
    before = {path: path.stat().st_ino for path in target.rglob("*")}

    assert context.copy_context(folder, target) == record
    assert {path: path.stat().st_ino for path in target.rglob("*")} == before


def test_only_what_changed_is_copied_again(folder, target):
    context.copy_context(folder, target)
    before = (target / "data/table.csv").stat().st_ino

    write(folder / "sums.py", "a = 2\n")
    context.copy_context(folder, target)

    assert (target / "sums.py").read_text() == "a = 2\n"
    assert (target / "data/table.csv").stat().st_ino == before


def test_edit_that_sets_times_back_is_noticed(folder, target):
    record = context.copy_context(folder, target)

    keep_stat(folder / "sums.py", "a = 2\n")

    assert context.list_context_reasons(folder, target, previous=record) == ["sums.py changed"]
    context.copy_context(folder, target)
    assert (target / "sums.py").read_text() == "a = 2\n"


def test_what_is_gone_goes_from_the_copy(folder, target):
    write(folder / "old/x.py")
    context.copy_context(folder, target)

    shutil.rmtree(folder / "old")
    context.copy_context(folder, target)

    assert not (target / "old").exists()


@pytest.mark.parametrize("first", ["file", "folder", "link", "nothing", "empty"])
@pytest.mark.parametrize("second", ["file", "folder", "link", "nothing", "empty"])
def test_a_name_may_become_something_else(folder, target, first, second):
    put(folder / "thing", first)
    context.copy_context(folder, target)
    put(folder / "thing", second)

    record = context.copy_context(folder, target)

    copies = [*list_files(record), *(path for path, _ in record["links"])]
    assert list_copies(target) == sorted(copies)
    assert (target / "thing").is_dir() == (second in ("folder", "empty", "link"))
    assert context.list_context_reasons(folder, target, previous=record) == []
    assert list_copies(folder / "data") == ["table.csv"]


def put(path: Path, kind: str) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    if kind == "file":
        write(path, "x")
    elif kind == "folder":
        write(path / "inside", "x")
    elif kind == "link":
        path.symlink_to("data")
    elif kind == "empty":
        path.mkdir()


@pytest.mark.parametrize("damage", ["edited", "removed", "mode", "link", "added"])
def test_damaged_copy_is_made_again(folder, target, damage):
    (folder / "link").symlink_to("data")
    (folder / "empty").mkdir()
    record = context.copy_context(folder, target)
    copy = target / "sums.py"
    if damage == "edited":
        copy.write_text("a = 3\n")
    elif damage == "removed":
        shutil.rmtree(target)
    elif damage == "mode":
        copy.chmod(0o755)
    elif damage == "link":
        (target / "link").unlink()
    else:
        write(target / "added.py")

    if damage != "added":
        assert context.list_context_reasons(folder, target, previous=record)
    assert context.copy_context(folder, target) == record
    assert list_copies(target) == ["data/table.csv", "link", "sums.py"]
    assert copy.read_text() == "a = 1\n"
    assert context.list_context_reasons(folder, target, previous=record) == []


def test_damaged_signatures_cost_only_looking(folder, target):
    record = context.copy_context(folder, target)
    (target.parent / "context.signatures").write_text('{"sums.py": 1}')

    assert context.copy_context(folder, target) == record


def test_the_users_folder_is_only_read(folder, target):
    write(folder / "Dockerfile", "FROM mine\n")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    context.copy_context(folder, target)

    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {path: time for path, time in after.items() if ".fftasks" not in path.parts} == before


def test_file_that_keeps_changing_is_an_error(folder, target, monkeypatch):
    copy = mirror._copy

    def copy_and_change(source, *args):
        copied = copy(source, *args)
        return (copied[0], "sha256:other") if source.name == "sums.py" else copied

    monkeypatch.setattr(mirror, "_copy", copy_and_change)

    with pytest.raises(ContextError, match=r"'sums\.py' keeps changing"):
        context.copy_context(folder, target)

    assert not list(target.parent.glob("context.[0-9]*"))


def test_file_that_changes_once_is_copied_again(folder, target, monkeypatch):
    copy = mirror._copy
    texts = ["a = 2\n", "a = 3\n"]

    def change_and_copy(source, *args):
        if texts and source.name == "sums.py":
            source.write_text(texts.pop())
        return copy(source, *args)

    monkeypatch.setattr(mirror, "_copy", change_and_copy)

    record = context.copy_context(folder, target)

    assert record["files"][1][2] == digest_bytes((folder / "sums.py").read_bytes())
    assert (target / "sums.py").read_text() == (folder / "sums.py").read_text()


def test_file_that_goes_away_before_it_is_copied_is_left_out(folder, target, monkeypatch):
    copy = mirror._copy

    def remove_and_copy(source, *args):
        if source.name == "sums.py":
            source.unlink()
        return copy(source, *args)

    monkeypatch.setattr(mirror, "_copy", remove_and_copy)

    assert list_files(context.copy_context(folder, target)) == ["data/table.csv"]


def test_file_that_becomes_unreadable_is_named(folder, target, monkeypatch):
    digest = mirror.scan_file

    def digest_and_replace(file, path):
        found = digest(file, path)
        file.unlink()
        file.mkdir()
        return found

    monkeypatch.setattr(mirror, "scan_file", digest_and_replace)

    with pytest.raises(ContextError, match="cannot be read"):
        context.copy_context(folder, target)


def test_file_that_goes_away_is_left_out(folder, target, monkeypatch):
    digest = mirror.scan_file

    def remove_and_digest(file, path):
        if path == "sums.py":
            file.unlink()
        return digest(file, path)

    monkeypatch.setattr(mirror, "scan_file", remove_and_digest)

    assert list_files(context.copy_context(folder, target)) == ["data/table.csv"]


def test_copy_that_cannot_be_written_is_an_error_of_the_store(folder, target):
    write(target.parent)

    with pytest.raises(StoreError, match="cannot be written"):
        context.copy_context(folder, target)


@contextmanager
def limit_file_size(size_bytes: int) -> Iterator[None]:
    """Let no file become larger, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_that_is_full_loses_nothing(folder, target):
    write(folder / "big.bin", "x" * 10_000)

    with limit_file_size(5_000), pytest.raises(StoreError, match="cannot be written"):
        context.copy_context(folder, target)

    assert sorted(path.name for path in target.parent.iterdir()) == [
        "context",
        "context.signatures",
    ]
    record = context.copy_context(folder, target)
    assert (target / "big.bin").stat().st_size == 10_000
    assert context.list_context_reasons(folder, target, previous=record) == []


# looking


def test_look_has_nothing_to_say_after_make(folder, target):
    record = context.copy_context(folder, target)

    assert context.list_context_reasons(folder, target, previous=record) == []


def test_look_names_what_differs(folder, target):
    (folder / "link").symlink_to("data")
    record = context.copy_context(folder, target)
    write(folder / "sums.py", "a = 2\n")
    (folder / "data/table.csv").unlink()
    write(folder / "new.py")
    (folder / "link").unlink()
    (folder / "link").symlink_to("sums.py")

    assert context.list_context_reasons(folder, target, previous=record) == [
        "data is new",
        "data/table.csv is gone",
        "link changed",
        "new.py is new",
        "sums.py changed",
    ]


def test_look_without_a_record(folder, target):
    assert context.list_context_reasons(folder, target, previous=None) == ["never ran"]


def test_look_at_what_is_changing(folder, target, monkeypatch):
    record = context.copy_context(folder, target)
    write(folder / "new.py")

    def vanish(file, path):
        raise FileNotFoundError

    monkeypatch.setattr(mirror, "scan_file", vanish)

    assert context.list_context_reasons(folder, target, previous=record)[0].endswith("is changing")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"version": 0}, "the algorithm of this stage changed"),
        ({"files": [1]}, "the record is damaged"),
        ({"files": None}, "the record is damaged"),
        ({"files": [[]]}, "the record is damaged"),
    ],
)
def test_look_at_a_record_that_is_none(folder, target, damage, said):
    record = context.copy_context(folder, target)

    assert context.list_context_reasons(folder, target, previous={**record, **damage}) == [said]


def test_look_at_a_record_that_lacks_something(folder, target):
    record = context.copy_context(folder, target)
    del record["links"]

    assert context.list_context_reasons(folder, target, previous=record) == [
        "the record is damaged"
    ]


def test_look_after_a_touch_finds_nothing_and_reads_once(folder, target, monkeypatch):
    record = context.copy_context(folder, target)
    os.utime(folder / "sums.py", ns=(LONG_AGO_NS, LONG_AGO_NS))
    settle(monkeypatch)
    read = []
    digest = mirror.scan_file
    monkeypatch.setattr(
        mirror, "scan_file", lambda file, path: read.append(path) or digest(file, path)
    )

    assert context.list_context_reasons(folder, target, previous=record) == []
    assert context.list_context_reasons(folder, target, previous=record) == []
    assert read.count("sums.py") == 1


def settle(monkeypatch) -> None:
    """Let it be later than it is."""
    now = mirror.time.time_ns
    monkeypatch.setattr(mirror.time, "time_ns", lambda: now() + 10**10)


def test_unchanged_files_are_not_read(folder, target, monkeypatch):
    settle(monkeypatch)
    record = context.copy_context(folder, target)
    monkeypatch.setattr(mirror, "scan_file", lambda _, path: pytest.fail(f"{path} is read"))

    assert context.list_context_reasons(folder, target, previous=record) == []
    assert context.copy_context(folder, target) == record


def test_file_written_a_moment_ago_is_read_again(folder, target, monkeypatch):
    now = (folder / "sums.py").stat().st_mtime_ns
    monkeypatch.setattr(mirror.time, "time_ns", lambda: now)
    context.copy_context(folder, target)

    signatures = json.loads((target.parent / "context.signatures").read_text())

    assert signatures["files"]["sums.py"][1] == ""


def test_ignoring_more_by_a_pattern_that_meets_nothing_is_a_change(folder, target):
    record = context.copy_context(folder, target)

    assert context.list_context_reasons(
        folder, target, ContextSettings(ignore=("*.tmp",)), previous=record
    ) == ["the patterns changed"]


def test_comment_in_dockerignore_is_a_change_of_that_file_only(folder, target):
    write(folder / ".dockerignore", "*.log\n")
    record = context.copy_context(folder, target)
    write(folder / ".dockerignore", "# logs\n*.log\n")

    assert context.list_context_reasons(folder, target, previous=record) == [
        ".dockerignore changed"
    ]
