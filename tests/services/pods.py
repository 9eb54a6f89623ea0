"""Pods in a container engine: the image is pulled by its reference, the command runs without a network."""

from __future__ import annotations

import io
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.services.kubernetes import WaitError, read_quantity
from tests.services.launcher import Ending, Pod

if TYPE_CHECKING:
    import docker

# what Argo mounts as empty folders into the container of every task, open to every user
_MOUNTS = ("minio", "s3", "gcs", ".local", ".cache", ".config")
_OUTPUTS = ("minio", "s3", "gcs", "tmp/kfp", "tmp/kfp_outputs")

# a kubelet tries to pull again and again, later and later; this one gives up after these waits
_BACK_OFF_S = (0.2, 1.0, 3.0)


@dataclass
class DockerPods:
    """Runs pods; a callable as Cluster.launch.

    Files travel as archives, not as mounts: they belong to whom they belong in the container,
    none of them on this machine, and the engine may be another machine.

    credentials  the pull secret, as docker-py's auth_config; None: there is none
    user         the user that a cluster's security policy sets; "": the image's own
    """

    engine: docker.DockerClient
    credentials: dict[str, str] | None = None
    user: str = ""
    pulled: list[str] = field(default_factory=list)

    def prepare(self, pod: Pod) -> None:
        """Pull the image; WaitError if that is not possible."""
        from docker.errors import APIError

        try:
            self._insist(pod.image)
        except APIError as exc:
            problem = f'Back-off pulling image "{pod.image}": {exc.explanation}'
            raise WaitError("image", "ImagePullBackOff", problem) from exc

    def __call__(self, pod: Pod) -> Ending:
        """Run one pod to its end."""
        from docker.errors import APIError

        try:
            container = self._create(pod)
        except APIError as exc:
            return Ending(1, error=f"CreateContainerError: {exc.explanation}")
        try:
            return self._run(container, pod)
        finally:
            container.remove(force=True, v=True)

    def _insist(self, reference: str) -> None:
        """Pull an image as a node does: what may pass is waited for.

        A registry that writes in place answers 500 to who reads a manifest while it gets a
        second tag, which is what happens when the next workflow is pushed.
        """
        from docker.errors import APIError

        for wait_s in _BACK_OFF_S:
            with suppress(APIError):
                return self._pull(reference)
            time.sleep(wait_s)
        return self._pull(reference)

    def _pull(self, reference: str) -> None:
        """Ask the registry for the image, even if the engine has it: a new node has not."""
        name, separator, version = reference.partition("@")
        if not separator:
            name, separator, version = _split_tag(reference)
        # without explicit credentials docker-py would look for the user's own
        credentials = self.credentials or {}
        # an engine that once pulled a digest does not ask for its manifest again; a new node would
        self.engine.api.inspect_distribution(reference, auth_config=credentials)
        self.engine.api.pull(name, tag=version, auth_config=credentials)
        self.engine.images.get(reference)
        self.pulled.append(reference)

    def _create(self, pod: Pod) -> Any:
        return self.engine.containers.create(
            pod.image,
            command=pod.args,
            entrypoint=pod.command,
            environment=pod.env,
            user=self.user or None,
            network_disabled=True,
            labels={"fftasks-test.pod": pod.name},
            **_limit(pod),
        )

    def _run(self, container: Any, pod: Pod) -> Ending:
        from docker.errors import APIError

        container.put_archive("/", _pack(pod))
        try:
            container.start()
        except APIError:
            # the launcher is started in any case, and cannot start the command (Go's os/exec)
            words = f'exec: "{pod.command[0]}": executable file not found in $PATH'
            return Ending(127, log="", reason=words)
        code = _wait(container, pod)
        log = container.logs().decode(errors="replace")
        if code is None:
            return Ending(137, log, is_killed=True)
        for folder in (*_OUTPUTS, *(path.strip("/") for path in pod.kept)):
            _fetch(container, folder, pod)
        container.reload()
        is_out_of_memory = bool(container.attrs["State"].get("OOMKilled"))
        return Ending(code, log, is_out_of_memory=is_out_of_memory)


def _limit(pod: Pod) -> dict[str, Any]:
    """Return the engine's options for a pod's memory limit and for its folders in memory.

    No release of KFP reads `enabledSharedMemory`; an empty dir in memory at /dev/shm is what works.
    """
    options: dict[str, Any] = {}
    if pod.resources is not None and pod.resources.resource_memory_limit:
        options["mem_limit"] = int(read_quantity(pod.resources.resource_memory_limit))
    for mount in pod.kubernetes.empty_dir_mounts if pod.kubernetes is not None else ():
        if mount.medium != "Memory":
            continue
        size = int(read_quantity(mount.size_limit)) or 1 << 30
        if mount.mount_path.rstrip("/") == "/dev/shm":
            options["shm_size"] = size
        else:
            options.setdefault("tmpfs", {})[mount.mount_path] = f"size={size},mode=1777"
    return options


def _wait(container: Any, pod: Pod) -> int | None:
    """Return the exit code of a pod; kill it when its run is terminated, or its deadline is over.

    None for the deadline.
    """
    end = time.monotonic() + pod.deadline_s
    while (code := _wait_a_second(container)) is None:
        if time.monotonic() > end:
            container.kill()
            return None
        if pod.is_terminated.is_set():
            container.kill()
        pod.show(container.logs().decode(errors="replace"))
    return code


def _wait_a_second(container: Any) -> int | None:
    from requests.exceptions import ConnectionError as NoAnswer
    from requests.exceptions import ReadTimeout

    try:
        code: int = container.wait(timeout=1)["StatusCode"]
    except (NoAnswer, ReadTimeout):
        return None
    return code


def _pack(pod: Pod) -> bytes:
    """Return the pod's files as a tar archive, with the folders that every pod has."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in _MOUNTS:
            _add_folder(archive, name)
        for path in sorted(pod.folder.rglob("*")):
            name = str(path.relative_to(pod.folder))
            if path.is_dir():
                _add_folder(archive, name)
            else:
                archive.add(path, name, filter=_open_to_all)
    return stream.getvalue()


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o777
    archive.addfile(folder)


def _open_to_all(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o666
    return entry


def _fetch(container: Any, folder: str, pod: Pod) -> None:
    """Bring a folder of the container into the pod's folder, if there is one."""
    from docker.errors import NotFound

    try:
        pieces, _status = container.get_archive(f"/{folder}")
    except NotFound:
        return
    stream = io.BytesIO(b"".join(pieces))
    target = (pod.folder / folder).parent
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=stream) as archive:
        for entry in archive:
            if entry.isdir() or entry.isfile():
                archive.extract(_open_to_owner(entry), target, **_FILTER)


def _open_to_owner(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


# older Pythons of the versions we run on do not have the filter, newer ones warn without it
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _split_tag(reference: str) -> tuple[str, str, str]:
    head, _, last = reference.rpartition("/")
    name, _, tag = last.partition(":")
    return (f"{head}/{name}" if head else name), ":", tag or "latest"
