"""What the kernel's files say about a container's memory, cgroup v1 and v2."""

import pytest

from fftasks.runner.process import MemoryState, format_bytes, read_memory_state

V1 = "9:name=systemd:/x\n4:memory:/kubepods/pod1/abc\n3:cpu,cpuacct:/\n"
V2 = "0::/kubepods/pod1/abc\n"


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "memory"),
    [
        # the mount shows the container's own cgroup, as in most containers
        (V1, {"memory/memory.limit_in_bytes": "268435456\n",
              "memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"},
         MemoryState(1 << 28, 2)),
        (V2, {"memory.max": "268435456\n", "memory.events": "low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\n"},
         MemoryState(1 << 28, 1)),
        ("0::/\n", {"memory.max": "max\n", "memory.events": "oom 0\noom_kill 0\noom_group_kill 0\n"},
         MemoryState(None, 0)),
        # it shows the machine's
        (V1, {"memory/kubepods/pod1/abc/memory.limit_in_bytes": "9223372036854771712\n",
              "memory/kubepods/pod1/abc/memory.oom_control": "oom_kill 0\n",
              "memory/memory.limit_in_bytes": "1\n"},
         MemoryState(None, 0)),
        (V2, {"kubepods/pod1/abc/memory.max": "1048576\n", "kubepods/pod1/abc/memory.events": "oom_kill 3\n"},
         MemoryState(1 << 20, 3)),
        # both versions, the memory with v1
        (V1 + "0::/\n", {"memory/memory.limit_in_bytes": "4096\n", "cgroup.procs": ""}, MemoryState(4096)),
        # a kernel that does not count, files that are not there or not understood
        (V1, {"memory/memory.limit_in_bytes": "4096\n", "memory/memory.oom_control": "under_oom 0\n"},
         MemoryState(4096)),
        (V2, {"memory.max": "?\n", "memory.events": "oom_kill\n"}, MemoryState()),
        (V2, {}, MemoryState()),
        ("", {"memory.max": "1\n"}, MemoryState()),
    ],
)  # fmt: skip
def test_limit_and_kills_are_read(tmp_path, membership, files, memory):
    (tmp_path / "cgroup").write_text(membership)
    write(tmp_path / "mount", files)

    assert read_memory_state(tmp_path / "cgroup", tmp_path / "mount") == memory


def test_nothing_is_known_where_there_are_no_cgroups(tmp_path):
    assert read_memory_state(tmp_path / "cgroup", tmp_path) == MemoryState()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (MemoryState(1 << 28, 0), MemoryState(1 << 28, 1), "out of memory, memory limit 256 MiB"),
        (MemoryState(None, 4), MemoryState(None, 5), "out of memory"),
        (MemoryState(1 << 28, 1), MemoryState(1 << 28, 1), ""),
        (MemoryState(1 << 28), MemoryState(1 << 28), "out of memory? memory limit 256 MiB"),
        (MemoryState(), MemoryState(), "out of memory?"),
    ],
)
def test_kill_is_explained_as_surely_as_the_kernel_says(before, after, said):
    assert after.describe_kill(before) == said


@pytest.mark.parametrize(
    ("number", "spelled"),
    [(512, "512 bytes"), (1 << 20, "1 MiB"), (3 << 29, "1.5 GiB"), (500_000_000, "476.8 MiB"),
     (1 << 52, "4096 TiB")],
)  # fmt: skip
def test_bytes_are_spelled_with_a_unit(number, spelled):
    assert format_bytes(number) == spelled
