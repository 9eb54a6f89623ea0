"""Which layer a file is in depends on its path and size, and on how much there is of its kind."""

from __future__ import annotations

from fftasks.image.layers import LayerEntry, split_into_layers

KIB, MIB = 1024, 1024 * 1024


def make(path: str, size: int = KIB) -> LayerEntry:
    return LayerEntry(path, b"", size)


def list_paths(entries) -> list[list[str]]:
    return [[entry.path for entry in layer] for layer in split_into_layers(entries)]


def test_kinds_are_apart_and_python_is_on_top():
    entries = [make("a.py"), make("b.csv"), make("model.bin", MIB), make("big.py", MIB)]

    assert list_paths(entries) == [["model.bin", "big.py"], ["b.csv"], ["a.py"]]


def test_a_small_project_of_code_is_one_layer():
    assert list_paths([make("a.py"), make("b/c.py")]) == [["a.py", "b/c.py"]]


def test_nothing_is_one_empty_layer():
    assert split_into_layers([]) == [()]


def test_links_and_folders_are_somewhere():
    assert list_paths([LayerEntry("link", to="a"), LayerEntry("empty")]) == [["link", "empty"]]


def test_many_files_are_divided_and_stay_where_they_are():
    entries = [make(f"{k}.txt", 4 * KIB) for k in range(5000)]  # 20 MB

    layers = split_into_layers(entries)
    after = split_into_layers([*entries[1:], make("new.txt")])

    assert len(layers) == 8
    assert sorted(e.path for layer in layers for e in layer) == sorted(e.path for e in entries)
    assert max(len(layer) for layer in layers) < 800
    assert sum(a != b for a, b in zip(layers, after, strict=True)) <= 2


def test_there_are_never_many_layers():
    entries = [make(f"{k}.bin", 900 * MIB) for k in range(100)]

    assert len(split_into_layers(entries)) == 8
