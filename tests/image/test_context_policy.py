"""What stops the context before anything is copied: secrets and size; and that looking stays cheap."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fftasks.config import ContextSettings
from fftasks.config.ignore import ContextError
from fftasks.errors import SettingsError
from fftasks.image import context
from fftasks.image import sync as mirror
from fftasks.image.context_policy import ContextSizeError, SecretError
from fftasks.records import read_record, write_record
from tests.image.sample_files import write

TOKEN = "ghp_" + "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYaB3d"

ENV = "DB_PASSWORD=tiger-7-Oslo\n"


@pytest.fixture
def outside() -> Iterator[Path]:
    """Give a folder that everybody may use, which pytest's own are not."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def settle(monkeypatch) -> None:
    """Let it be later than it is."""
    now = mirror.time.time_ns
    monkeypatch.setattr(mirror.time, "time_ns", lambda: now() + 10**10)


def snapshot(folder: Path) -> dict[str, tuple]:
    """Return all that can be known of a folder's entries, but for when they were read."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        if ".fftasks" not in path.relative_to(folder).parts and path != folder:
            state = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(state.st_mode) else None
            to = path.readlink() if path.is_symlink() else None
            known = (state.st_mode, state.st_ino, state.st_mtime_ns, state.st_ctime_ns)
            found[str(path)] = (*known, state.st_nlink, content, to)
    return found


# secrets


def test_secret_stops_before_anything_is_copied(folder, target):
    write(folder / "a.py", "x = 1\n")
    write(folder / "z.py", f"# a token\ntoken = '{TOKEN}'\n")

    with pytest.raises(SecretError, match=r"z\.py:2: github-token"):
        context.copy_context(folder, target)

    assert not target.exists()


def test_secret_in_a_new_file_leaves_the_copy_as_it_was(folder, target):
    context.copy_context(folder, target)
    write(folder / "data/table.csv", "3,4\n")
    write(folder / ".env", ENV)

    with pytest.raises(SecretError):
        context.copy_context(folder, target)

    assert (target / "data/table.csv").read_text() == "1,2\n"
    assert not (target / ".env").exists()


def test_value_is_in_no_message_no_record_and_no_file_of_ours(folder, target):
    write(folder / "keys.txt", f"{TOKEN}\n")
    with pytest.raises(SecretError) as caught:
        context.copy_context(folder, target)
    record = context.copy_context(folder, target, ContextSettings(allow=("keys.txt",)))

    said = [str(caught.value), repr(caught.value), json.dumps(record)]
    said += [path.read_text() for path in target.parent.iterdir() if path.is_file()]

    assert len(said) >= 4
    assert not [text for text in said if TOKEN in text or TOKEN[4:] in text]


def test_allowed_secret_gets_in_and_the_record_says_so(folder, target):
    write(folder / "keys.txt", f"\n{TOKEN}\n")
    settings = ContextSettings(allow=("*.txt",))

    record = context.copy_context(folder, target, settings)

    assert record["allowed"] == [["keys.txt", 2, "github-token"]]
    assert (target / "keys.txt").read_text() == f"\n{TOKEN}\n"
    assert context.list_context_reasons(folder, target, settings, previous=record) == []


def test_allowing_changes_no_digest_of_the_content(folder, target):
    write(folder / ".env", ENV)
    record = context.copy_context(folder, target, ContextSettings(allow=(".env",)))
    other = context.copy_context(folder, target, ContextSettings(allow=("*.env", "x")))

    assert other == record


def test_what_is_allowed_no_more_stops_although_no_file_changed(folder, target, monkeypatch):
    settle(monkeypatch)
    write(folder / ".env", ENV)
    record = context.copy_context(folder, target, ContextSettings(allow=(".env",)))

    with pytest.raises(SecretError):
        context.list_context_reasons(folder, target, previous=record)


def test_record_that_says_nothing_of_what_is_allowed_is_made_again(folder, target):
    write(folder / ".env", ENV)
    settings = ContextSettings(allow=(".env",))
    record = context.copy_context(folder, target, settings)

    assert context.list_context_reasons(
        folder, target, settings, previous={**record, "allowed": []}
    ) == ["what context.allow lets in changed"]


def test_ignored_secret_is_no_matter(folder, target):
    write(folder / ".env", ENV)
    write(folder / ".dockerignore", ".env\n")

    assert context.copy_context(folder, target)["allowed"] == []


def test_secret_that_is_taken_out_is_no_matter_any_more(folder, target):
    write(folder / "z.py", f"token = '{TOKEN}'\n")
    with pytest.raises(SecretError):
        context.copy_context(folder, target)
    write(folder / "z.py", "token = 'from the environment'\n")

    assert context.copy_context(folder, target)["allowed"] == []


def test_secret_beyond_a_megabyte_is_found(folder, target):
    write(folder / "big.txt", "x" * 99 + "\n" + ("y" * 99 + "\n") * 30_000 + TOKEN + "\n")

    with pytest.raises(SecretError, match=r"big\.txt:30002: github-token"):
        context.copy_context(folder, target)


def test_found_again_without_reading_again(folder, target, monkeypatch):
    settle(monkeypatch)
    write(folder / "z.py", f"token = '{TOKEN}'\n")
    with pytest.raises(SecretError):
        context.copy_context(folder, target)
    monkeypatch.setattr(mirror, "scan_file", lambda _, path: pytest.fail(f"{path} is read"))

    with pytest.raises(SecretError, match=r"z\.py:1"):
        context.copy_context(folder, target)


def test_other_rules_look_at_all_files_again(folder, target, monkeypatch):
    settle(monkeypatch)
    record = context.copy_context(folder, target)
    read = []
    read_file = mirror.scan_file
    monkeypatch.setattr(
        mirror, "scan_file", lambda file, path: read.append(path) or read_file(file, path)
    )
    monkeypatch.setattr(mirror, "RULES_DIGEST", "sha256:other")
    monkeypatch.setattr(context, "RULES_DIGEST", "sha256:other")

    assert context.copy_context(folder, target) == record
    assert read == ["data/table.csv", "sums.py"]


def test_link_to_a_secret_file_is_found_at_the_file(folder, target):
    write(folder / "keys/a.txt", TOKEN)
    (folder / "again.txt").symlink_to("keys/a.txt")

    with pytest.raises(SecretError, match=r"keys/a\.txt:1") as caught:
        context.copy_context(folder, target)

    assert "again.txt" not in str(caught.value)


# size


def test_too_large_stops_before_anything_is_read(folder, target, monkeypatch):
    write(folder / "data/big.bin", "x" * 5_000)
    monkeypatch.setattr(mirror, "scan_file", lambda _, path: pytest.fail(f"{path} is read"))

    with pytest.raises(ContextSizeError, match=r"5\.0 kB  data  \(2 files\)"):
        context.copy_context(folder, target, ContextSettings(max_size="2kB"))

    assert not target.exists()


def test_lower_limit_stops_although_no_file_changed(folder, target, monkeypatch):
    settle(monkeypatch)
    record = context.copy_context(folder, target)

    with pytest.raises(ContextSizeError):
        context.list_context_reasons(
            folder, target, ContextSettings(max_size="5B"), previous=record
        )


def test_suggested_patterns_make_it_fit(folder, target):
    write(folder / "data/big.bin", "x" * 5_000)
    write(folder / ".dockerignore", "data\n")

    assert context.copy_context(folder, target, ContextSettings(max_size="2kB"))["size_bytes"] == 11


def test_an_invalid_limit_is_named(folder, target):
    with pytest.raises(SettingsError, match=r"context\.max_size: invalid size: 'big'"):
        context.copy_context(folder, target, ContextSettings(max_size="big"))


# kinds of files, and many of them


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_device_is_left_out(folder, target):
    try:
        os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets nobody make a device")

    record = context.copy_context(folder, target)

    assert [path for path, *_ in record["files"]] == ["data/table.csv", "sums.py"]


def test_names_that_differ_in_case_are_both_copied(folder, target):
    write(folder / "Sums.py", "a = 2\n")
    if (folder / "sums.py").read_text() == "a = 2\n":
        pytest.skip("this file system has one place for both")

    record = context.copy_context(folder, target)

    assert [path for path, *_ in record["files"]] == ["Sums.py", "data/table.csv", "sums.py"]
    assert (target / "Sums.py").read_text() == "a = 2\n"
    assert (target / "sums.py").read_text() == "a = 1\n"


def test_more_than_ten_thousand_files(folder, target, monkeypatch):
    settle(monkeypatch)
    (folder / "many").mkdir()
    for number in range(10_001):
        (folder / f"many/{number}").touch()

    record = context.copy_context(folder, target)

    assert len(record["files"]) == 10_003
    assert context.list_context_reasons(folder, target, previous=record) == []
    assert len(list((target / "many").iterdir())) == 10_001


# the user's folder


def test_folder_nobody_can_write_to_is_copied(outside, tmp_path):
    project, target = outside / "project", outside / "state" / "context"
    write(project / "data/table.csv", "1,2\n")
    write(project / "Dockerfile", "FROM mine\n")
    target.parent.mkdir()
    target.parent.chmod(0o777)
    for path in (project / "data", project):
        path.chmod(0o555)
    before = snapshot(project)

    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(PermissionError):
            (project / "x").touch()
        record = context.copy_context(project, target)
        assert context.list_context_reasons(project, target, previous=record) == []
    finally:
        os.seteuid(os.getuid())

    assert snapshot(project) == before
    assert (target / "Dockerfile").read_text() == "FROM mine\n"
    for path in (project, project / "data"):
        path.chmod(0o755)


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_in_the_folder_changes(folder, target, refused):
    write(folder / "Dockerfile", "FROM mine\n")
    write(folder / ".dockerignore", "*.log\n")
    write(folder / "empty.log")
    (folder / "link").symlink_to("data")
    (folder / "sums.py").chmod(0o700)
    if refused:
        write(folder / ".env", ENV)
    before = snapshot(folder)

    try:
        context.list_context_reasons(folder, target, previous=context.copy_context(folder, target))
    except SecretError:
        assert refused

    assert snapshot(folder) == before


# looking when nothing changed


@pytest.fixture
def stamped(folder, target, monkeypatch) -> dict:
    """Give a record of which the stamp says that nothing has changed."""
    settle(monkeypatch)
    (folder / "link").symlink_to("data")
    (folder / "empty").mkdir()
    return context.copy_context(folder, target)


def test_stamp_spares_all_but_stat(folder, target, stamped, monkeypatch):
    monkeypatch.setattr(mirror, "_read_signatures", lambda _: pytest.fail("the memory is read"))

    assert context.list_context_reasons(folder, target, previous=stamped) == []


def test_stamp_is_made_by_looking_too(folder, target, monkeypatch):
    record = context.copy_context(folder, target)
    (target.parent / "context.stamp").unlink(missing_ok=True)
    settle(monkeypatch)
    context.list_context_reasons(folder, target, previous=record)
    monkeypatch.setattr(mirror, "_read_signatures", lambda _: pytest.fail("the memory is read"))

    assert context.list_context_reasons(folder, target, previous=record) == []


def test_no_stamp_while_a_file_may_change_unseen(folder, target, monkeypatch):
    now = (folder / "sums.py").stat().st_mtime_ns
    monkeypatch.setattr(mirror.time, "time_ns", lambda: now)

    context.copy_context(folder, target)

    assert not (target.parent / "context.stamp").exists()


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder, _: write(folder / "sums.py", "a = 2\n"),
        lambda folder, _: write(folder / "new.py"),
        lambda folder, _: (folder / "sums.py").unlink(),
        lambda folder, _: (folder / "sums.py").chmod(0o755),
        lambda folder, _: (folder / "more").mkdir(),
        lambda folder, _: (folder / "empty").rmdir(),
        lambda folder, _: (folder / "link").unlink(),
        lambda folder, _: (folder / "other").symlink_to("data"),
        lambda folder, _: write(folder / ".dockerignore", "*.log\n"),
        lambda _, target: write(target / "sums.py", "a = 2\n"),
        lambda _, target: (target / "sums.py").chmod(0o755),
        lambda _, target: (target / "sums.py").unlink(),
        lambda _, target: (target / "link").unlink(),
        lambda _, target: (target / "empty").rmdir(),
        lambda _, target: shutil.rmtree(target),
    ],
)
def test_no_stamp_hides_a_change(folder, target, stamped, edit):
    edit(folder, target)

    assert context.list_context_reasons(folder, target, previous=stamped)


def test_stamp_is_of_one_record(folder, target, stamped):
    assert context.list_context_reasons(folder, target, previous={**stamped, "size_bytes": 7}) == [
        "the record is damaged"
    ]


def test_stamp_holds_for_a_record_that_was_read(folder, target, stamped, tmp_path, monkeypatch):
    write_record(tmp_path / "context.json", stamped)
    monkeypatch.setattr(mirror, "_read_signatures", lambda _: pytest.fail("the memory is read"))

    record = read_record(tmp_path / "context.json")

    assert context.list_context_reasons(folder, target, previous=record) == []


def test_link_out_is_an_error_also_with_a_stamp(folder, target, stamped):
    (folder / "out").symlink_to("/etc")

    with pytest.raises(ContextError, match="'out' leaves"):
        context.list_context_reasons(folder, target, previous=stamped)


def test_folder_that_goes_away_while_it_is_listed_is_left_out(folder, target, monkeypatch):
    scan = os.scandir

    def remove_and_scan(path):
        if str(path).endswith("data"):
            shutil.rmtree(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", remove_and_scan)

    assert [path for path, *_ in context.copy_context(folder, target)["files"]] == ["sums.py"]
