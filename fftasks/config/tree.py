"""Declares all settings of a project with default and help text, and formats config/default.yaml."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fftasks.config.node_settings import NODE_SETTING_SPECS, SettingOverride
from fftasks.config.sizes import SIZE_EXAMPLE, SIZE_FORM
from fftasks.config.specification import SettingSpec, SettingSpecs
from fftasks.config.specification import make_setting as _setting
from fftasks.errors import SettingsError


class _Section:
    """Base class of sections; a value that is an error, such as of a missing secret, is raised at its use."""

    if not TYPE_CHECKING:  # with this method, mypy would accept any attribute name

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if isinstance(value, SettingsError):
                raise value
            return value


@dataclass(frozen=True)
class ContextSettings:
    """Files that are copied into the image."""

    folder: str = _setting(".", "folder that is copied, relative to the project folder")
    ignore: tuple[str, ...] = _setting(
        (), "patterns in addition to those in .dockerignore, in the same syntax"
    )
    allow: tuple[str, ...] = _setting(
        (), "files to copy although they may contain secrets; same syntax as ignore"
    )
    max_size: str = _setting(
        "500MB", "maximum size of all files; 0: no limit", form=SIZE_FORM, example=SIZE_EXAMPLE
    )


@dataclass(frozen=True)
class ImageSettings(_Section):
    """Container image of the nodes."""

    base: str = _setting("python:3.11-slim", "base image; needs Python 3.10 or newer")
    requirements: str = _setting(
        "requirements.txt", "requirements file that is installed into the image; optional"
    )
    platform: str = _setting("linux/amd64", "operating system and architecture of the cluster")
    builder: str = _setting(
        "auto",
        "docker needs a container engine, oci does not; auto uses docker if an engine responds",
        choices=("auto", "docker", "oci"),
    )
    python: str = _setting("", "Python version of the base image, such as 3.11; empty: detected")
    tag: str = _setting("latest", "tag of the pushed image; runs use its digest")
    check: bool = _setting(
        True, "import all workflows in the image before it is pushed, to detect missing packages"
    )
    pin: str = _setting(
        "node",
        "image of a node; node: the image in which it last changed; pipeline: the newest for all",
        choices=("node", "pipeline"),
    )
    build_env: dict[str, str] = _setting(
        {}, "environment variables of pip, such as PIP_INDEX_URL", secret=True
    )
    ca_cert: str = _setting(
        "", "file with CA certificates that pip trusts, for a package index with its own CA"
    )


@dataclass(frozen=True)
class RegistrySettings(_Section):
    """Registry that the image is pushed to."""

    server: str = _setting("", "host and port, such as registry.example.com:5000")
    repository: str = _setting("fftasks", "name of the image in the registry, such as team/project")
    insecure: bool = _setting(
        False, "use plain HTTP (always for localhost); container engines have their own list"
    )
    ca_cert: str = _setting(
        "", "file with CA certificates to trust, for a registry with its own CA"
    )
    username: str = _setting("", "user name; empty: login of Docker")
    password: str = _setting("", "password; use ${NAME} instead of the value", secret=True)
    token_server: str = _setting(
        "", "host of a token server in another domain that may receive the password"
    )


@dataclass(frozen=True)
class KFPSettings(_Section):
    """Kubeflow Pipelines (KFP)."""

    host: str = _setting("http://localhost:8080", "URL of the KFP API")
    version: str = _setting(
        "2.17",
        "release of the KFP backend, such as 2.16; determines the maximum size of a run",
        form=r"2\.[0-9]+(\.[0-9]+)?",
        example="2.17 or 2.16.1",
    )
    namespace: str = _setting("", "namespace of the user, on clusters with several users")
    experiment: str = _setting("Default", "experiment of the runs; created if it does not exist")
    run_name: str = _setting(
        "{workflow}",
        "name of a run; {workflow} and {pipeline} (start of its digest) are replaced",
    )
    caching: bool = _setting(
        True, "allow KFP to reuse results of unchanged nodes from earlier runs"
    )
    preview: bool = _setting(
        True,
        "show the first characters of each result in the KFP web UI, next to its type and shape",
    )
    fuse: str = _setting(
        "limit",
        "nodes that share a pod; auto: shortest estimated run; limit: auto if KFP needs it",
        choices=("none", "chains", "auto", "limit"),
    )
    pod_overhead_s: float = _setting(
        20.0, "startup time of a pod in seconds, used by kfp.fuse", minimum=0
    )
    parallel_pods: int = _setting(
        50, "number of pods that run at the same time, used by kfp.fuse", minimum=1
    )
    token: str = _setting("", "bearer token; use ${NAME} instead of the value", secret=True)
    token_file: str = _setting("", "file with the bearer token, read at each submit")
    cookies: str = _setting(
        "",
        "session cookies, such as authservice_session=...; use ${NAME} instead of the value",
        secret=True,
    )
    auth: str = _setting(
        "",
        "authentication method without token and cookies; see docs/how-to/cluster.md",
        choices=("", "service-account", "in-cluster", "kubeconfig", "iap", "google"),
    )
    kube_context: str = _setting("", "context of auth kubeconfig; empty: the current context")
    kube_namespace: str = _setting(
        "kubeflow",
        "namespace of the KFP installation, used by auth kubeconfig and in-cluster",
        form=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        example="kubeflow or kubeflow-dev",
    )
    iap_client_id: str = _setting("", "OAuth client ID of the proxy, used by auth iap")
    iap_user_client_id: str = _setting(
        "", "OAuth client ID of a desktop application, used by auth iap for users"
    )
    iap_user_client_secret: str = _setting(
        "", "secret of the client iap_user_client_id", secret=True
    )
    iap_refresh_token: str = _setting(
        "", "refresh token of the client iap_user_client_id for the user", secret=True
    )
    page: str = _setting("", "URL of the KFP web UI; empty: kfp.host")
    ca_cert: str = _setting("", "file with CA certificates to trust, for a host with its own CA")
    verify_ssl: bool = _setting(True, "verify the certificate of the host")
    insecure: bool = _setting(
        False,
        "allow sending credentials over plain HTTP; not needed for localhost and *.svc names",
    )
    timeout_s: float = _setting(
        30.0,
        "read timeout of a request in seconds; a whole response may take four times as long",
        minimum=0.1,
    )
    watch: bool = _setting(
        False,
        "wait for the end of a submitted run and show its progress, like `doit submit --watch`",
    )
    watch_timeout_s: float = _setting(
        0.0, "maximum time to watch a run in seconds; the run continues; 0: no limit", minimum=0.0
    )
    reconnect_timeout_s: float = _setting(
        600.0, "reconnect timeout in seconds while a run is watched", minimum=0.0
    )
    labels: dict[str, str] = _setting(
        {}, "labels in the description of a run, such as {team: vision}"
    )
    allow_tokens: tuple[str, ...] = _setting(
        (),
        "arguments and settings to submit although they look like secrets, such as [fetch.url]",
    )
    service_account: str = _setting(
        "", "Kubernetes service account of the pods; empty: default of KFP"
    )
    pipeline_root: str = _setting(
        "",
        "URI for results of runs, such as s3://bucket/runs; results elsewhere are not read",
    )


@dataclass(frozen=True)
class ObjectStoreSettings(_Section):
    """Access to the object store of the cluster, for `doit result` and `doit replay`."""

    mount: str = _setting(
        "",
        "folder with the mounted buckets; links to the outside are not followed",
    )
    endpoint: str = _setting(
        "",
        "URL of the store, such as http://localhost:9000 for MinIO; empty: Amazon or Google",
    )
    access_key: str = _setting(
        "", "access key; empty: credentials from the environment, such as AWS_ACCESS_KEY_ID"
    )
    secret_key: str = _setting("", "secret key; use ${NAME} instead of the value", secret=True)
    verify_ssl: bool = _setting(True, "verify the certificate of the store")


@dataclass(frozen=True)
class LocalSettings:
    """Runs on this machine."""

    isolation: str = _setting(
        "fork",
        "process of a node; fork: fork of a loaded process; fresh: new interpreter (slower)",
        choices=("fork", "fresh"),
    )


@dataclass(frozen=True)
class ReportSettings:
    """HTML pages of `doit report` and `doit board`."""

    previews: bool = _setting(
        True,
        "show values: results, arguments, run parameters, computed names, metrics, logs, messages",
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a project.

    Attributes:
        workflows: Files that build workflows, relative to the project folder, "/"-separated.
        context: Section of this name, as are all attributes up to `report`.
        nodes: Settings of single nodes in the order of the files; later ones win.
        origins: Dotted key -> where its value was set; "workflows[0]" -> the same for an item.
        warnings: Sentences to show to the user.
    """

    workflows: tuple[str, ...] = _setting(
        (), "files that build workflows, relative to the project folder"
    )
    context: ContextSettings = field(default_factory=ContextSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    kfp: KFPSettings = field(default_factory=KFPSettings)
    object_store: ObjectStoreSettings = field(default_factory=ObjectStoreSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    nodes: tuple[SettingOverride, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def origin(self, key: str) -> str:
        """Return where a setting was set: "config/prod.yaml:3", "environment <variable>" or "default"."""
        return self.origins.get(key, "default")


SECTIONS = {
    "context": ContextSettings,
    "image": ImageSettings,
    "registry": RegistrySettings,
    "kfp": KFPSettings,
    "object_store": ObjectStoreSettings,
    "local": LocalSettings,
    "report": ReportSettings,
}
_FILE_HEADER = (
    "# Settings of this project. Lines that are commented out show the defaults: uncomment and edit them.",
    "# A file config/prod.yaml is a profile: it overrides this file in `doit profile=prod submit`.",
    "# Environment variables such as FFTASKS_KFP__HOST override both. ${NAME} inserts a variable.",
)
_NODES_HEADER = (
    "# Settings of single nodes: below __default__ for all nodes, or below a regular expression for whole",
    '# names such as "train.*". If several match, the last one wins; mappings are merged by key.',
)


def _list_specs() -> Iterator[tuple[str, SettingSpec]]:
    """Yield the dotted key and the specification of each setting except those of nodes."""
    for top in dataclasses.fields(Settings):
        if top.name in SECTIONS:
            inner = dataclasses.fields(SECTIONS[top.name])
            yield from ((f"{top.name}.{leaf.name}", leaf.metadata["rule"]) for leaf in inner)
        elif "rule" in top.metadata:
            yield top.name, top.metadata["rule"]


SETTING_SPECS: SettingSpecs = dict(_list_specs())


def format_default_file(workflows: tuple[str, ...] = ()) -> str:
    """Return the text of a config/default.yaml with all settings, their defaults and help texts.

    Args:
        workflows: Files that build workflows, relative to the project folder.
    """
    lines = [*_FILE_HEADER, "", f"# {SETTING_SPECS['workflows'].says}"]
    lines += ["workflows:", *(f"  - {file}" for file in workflows)]
    for section, kind in SECTIONS.items():
        lines += ["", f"# {kind.__doc__}", f"{section}:"]
        for leaf in dataclasses.fields(kind):
            rule = leaf.metadata["rule"]
            lines.append(f"  # {leaf.name}: {json.dumps(rule.default)}  # {rule.says}")
    lines += ["", *_NODES_HEADER, "nodes:", "  # __default__:"]
    for name, rule in NODE_SETTING_SPECS.items():
        lines.append(f"  #   {name}: {json.dumps(rule.default)}  # {rule.says}")
    return "\n".join(lines) + "\n"
