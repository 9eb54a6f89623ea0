"""The rules of .dockerignore: a table of them, and random ones held against a real engine's client."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from fftasks.config.ignore import (
    IgnoreRules,
    escape_path,
    list_parents,
    parse_patterns,
    read_ignore,
    walk_context,
)
from fftasks.errors import SettingsError

_NAMES = ("a", "b", "ab", "a.b", "c d", "é", "a-1", "x]y", "A", "aXb", "$x", "log")
# together some hundred cases; more of them: FFTASKS_TEST_TIMES=20 python -m pytest <this file>
_TIMES = int(os.environ.get("FFTASKS_TEST_TIMES", "1"))
_CASES, _FORESTS, _TREES = 12 * _TIMES, 8 * _TIMES, 50
_DOCKERFILE = "our.Dockerfile"


def is_ignored(path: str, *lines: str) -> bool:
    ignore = IgnoreRules(parse_patterns(lines, ".dockerignore"))
    verdict = None
    parts = path.split("/")
    for count in range(len(parts)):
        verdict = ignore.check("/".join(parts[: count + 1]), verdict)
    assert verdict is not None
    return verdict.ignored


@pytest.mark.parametrize(
    ("line", "matching", "other"),
    [
        ("a.log", ["a.log", "a.log/below"], ["sub/a.log", "aXlog"]),
        ("*.log", ["a.log", ".log"], ["sub/a.log", "a.logs"]),
        ("*/a", ["sub/a", "sub/a/below"], ["a", "sub/sub/a"]),
        ("**/a", ["a", "sub/a", "sub/sub/a/below"], ["ba", "sub/ba"]),
        ("**a", ["a", "sub/ba", "ba"], ["ab"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "b"]),
        ("**", ["a", "a/b"], []),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[^a-c]x", ["dx"], ["ax"]),
        ("\\*", ["*"], ["a"]),
        ("a+b", ["a+b"], ["aab"]),
        ("a.*", ["a.b"], ["aXb"]),
        ("(a)*", ["(a)b"], ["ab"]),
        ("/a", ["a"], ["b/a"]),
        ("//a", ["a"], ["b/a"]),
        ("./a/", ["a"], ["b/a"]),
        ("b/../a", ["a"], ["b/a"]),
        ("../a", [], ["a"]),
        (" a \t\r", ["a"], [" a"]),
        ("#a", [], ["#a", "a"]),
        (" #a", ["#a"], ["a"]),
        (".", [], ["a"]),
        ("/", [], ["a"]),
        ("", [], ["a"]),
        ("\ufeffa", ["a"], []),
        ("é*", ["éa"], ["e"]),
    ],
)
def test_pattern(line, matching, other):
    assert [path for path in matching if not is_ignored(path, line)] == []
    assert [path for path in other if is_ignored(path, line)] == []


@pytest.mark.parametrize(
    ("lines", "inside", "outside"),
    [
        (["*", "!a"], ["a", "a/b"], ["b"]),
        (["a", "!a/b"], ["a/b"], ["a", "a/c"]),
        (["!a", "a"], [], ["a"]),
        (["*.md", "!README*", "README-secret.md"], ["README.md"], ["a.md", "README-secret.md"]),
        (["*.md", "README-secret.md", "!README*"], ["README-secret.md"], ["a.md"]),
        (["a", "! a/b"], ["a/b"], ["a/c"]),
        (["*", "!!a"], ["!a"], ["a"]),
        (["*", "./!a"], ["a"], ["!a"]),
        (["*", "/!a"], ["a"], ["!a"]),
        (["\\!a"], ["a"], ["!a"]),
        (["./ a"], [" a"], ["a"]),
    ],
)
def test_last_line_that_matches_decides(lines, inside, outside):
    assert [path for path in inside if is_ignored(path, *lines)] == []
    assert [path for path in outside if not is_ignored(path, *lines)] == []


@pytest.mark.parametrize(
    "line", ["!", "! ", "!/", "[", "[]", "[a", "[-a]", "a\\", "[b-a]", "[[:alpha:]]"]
)
def test_what_is_no_pattern_is_named_with_its_line(line):
    with pytest.raises(SettingsError) as caught:
        parse_patterns(["# a comment", line], ".dockerignore")

    assert ".dockerignore line 2" in str(caught.value)
    assert repr(line.strip()) in str(caught.value)


def test_comments_and_spaces_keep_the_digest():
    bare = IgnoreRules(parse_patterns(["a", "!b"], "x"))
    dressed = IgnoreRules(parse_patterns(["# why", " a", "", "! b/"], "x"))

    assert dressed.digest == bare.digest


def test_exception_changes_the_digest():
    assert (
        IgnoreRules(parse_patterns(["a"], "x")).digest
        != IgnoreRules(parse_patterns(["!a"], "x")).digest
    )


@pytest.mark.parametrize("seed", range(_CASES))
def test_same_files_as_the_real_client(seed, tmp_path, engine):
    chance = random.Random(seed)
    _fill(chance, tmp_path)
    lines = _make_lines(chance)
    (tmp_path / ".dockerignore").write_text("\n".join(lines))

    assert _list_here(tmp_path) == _list_with_docker(engine, tmp_path), lines


@pytest.mark.parametrize("seed", range(_FORESTS))
def test_same_files_as_the_real_client_in_many_trees_at_once(seed, tmp_path, engine):
    chance = random.Random(f"trees {seed}")
    patterns = {f"tree-{number}": _make_lines(chance) for number in range(_TREES)}
    for tree in patterns:
        (tmp_path / tree).mkdir()
        _fill(chance, tmp_path / tree)
    lines = [_move_into(tree, line) for tree, own in patterns.items() for line in own]
    (tmp_path / ".dockerignore").write_text("\n".join(lines))

    ours, theirs = _list_here(tmp_path), _list_with_docker(engine, tmp_path)

    wrong = {path.split("/")[0] for path in (ours[0] ^ theirs[0]) | (ours[1] ^ theirs[1])}
    assert not wrong, {tree: patterns.get(tree, lines) for tree in wrong}


def test_quoted_path_matches_itself_and_nothing_else(tmp_path, engine):
    names = ["a*", "ab", "[a]", "a", "x?", "xy", "#n", "!n", "n", "back\\slash", "c d", "é"]
    for name in names:
        (tmp_path / name).write_text(name)
    kept_out = ["a*", "[a]", "x?", "#n", "!n", "back\\slash"]
    (tmp_path / ".dockerignore").write_text("\n".join(escape_path(name) for name in kept_out))

    ours, theirs = _list_here(tmp_path), _list_with_docker(engine, tmp_path)

    assert ours == theirs
    assert set(names) - ours[0] == set(kept_out)


def _list_here(folder: Path) -> tuple[set[str], set[str]]:
    """Return the files and the empty folders that our own reading lets in."""
    listing = walk_context(folder, read_ignore(folder))
    return set(listing.files) - {_DOCKERFILE}, set(listing.folders)


def _make_lines(chance: random.Random) -> list[str]:
    lines = [_make_line(chance) for _ in range(chance.randint(1, 6))]
    return [chance.choice(["*", "**", "*/*"]), *lines] if chance.random() < 0.3 else lines


def _move_into(tree: str, line: str) -> str:
    """Return a line that says in a folder what it said at the top."""
    text = line.strip()
    return f"!{tree}/{text[1:]}" if text.startswith("!") else f"{tree}/{text}"


def _fill(chance: random.Random, folder: Path, depth: int = 0) -> None:
    for name in chance.sample(_NAMES, chance.randint(1, 5)):
        path = folder / name
        if depth < 3 and chance.random() < 0.5:
            path.mkdir()
            if chance.random() < 0.85:
                _fill(chance, path, depth + 1)
        else:
            path.write_text(name)


def _make_line(chance: random.Random) -> str:
    parts = [_make_part(chance) for _ in range(chance.choice([1, 1, 2, 2, 3]))]
    line = chance.choice(["", "", "", "/", "./", "../", "a/../"]) + "/".join(parts)
    line += chance.choice(["", "", "", "/", "/."])
    if chance.random() < 0.3:
        line = chance.choice(["!", "!", "!", "! ", "./!"]) + line
    return f" {line}\t\r" if chance.random() < 0.1 else line


def _make_part(chance: random.Random) -> str:
    kind = chance.random()
    if kind < 0.5:
        return chance.choice(_NAMES)
    if kind < 0.75:
        return chance.choice(["*", "**", "**"])
    marks = ["*", "?", "[a-c]", "[^a]", "**", "\\.", "[a\\]]"]
    return "".join(
        chance.choice(marks) if chance.random() < 0.4 else sign for sign in chance.choice(_NAMES)
    )


def _list_with_docker(engine, folder: Path) -> tuple[set[str], set[str]]:
    """Return the files and the empty folders that the client puts into an image."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("needs a service: the program docker, which sends the context")
    (folder / _DOCKERFILE).write_text("FROM scratch\nCOPY . /\n")
    command = [program, "build", "--quiet", "--file", _DOCKERFILE, "."]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    answer = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    image = answer.stdout.split()[-1]
    try:
        members = _list_members(engine.images.get(image))
    finally:
        engine.images.remove(image, force=True)
    files = {member.name for member in members if member.isfile()} - {_DOCKERFILE}
    folders = {member.name.rstrip("/") for member in members if member.isdir()}
    return files, folders - list_parents([*files, *folders])


def _list_members(image) -> list[tarfile.TarInfo]:
    if not image.attrs["RootFS"].get("Layers"):
        return []  # an image of nothing, which the engine does not give away
    with tarfile.open(fileobj=io.BytesIO(b"".join(image.save()))) as archive:
        (row,) = json.load(archive.extractfile("manifest.json"))
        (name,) = row["Layers"]
        with tarfile.open(fileobj=archive.extractfile(name)) as layer:
            return layer.getmembers()
