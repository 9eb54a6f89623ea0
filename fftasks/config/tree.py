"""The tree of settings: which there are, what each may be, and the default file made from it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fftasks.config.node_settings import NODE_RULES, Layer
from fftasks.config.specification import Rule, Rules
from fftasks.config.specification import make_setting as _setting
from fftasks.errors import SettingsError


class _Section:
    """A part of the settings; a value that is an error is raised where it is used."""

    if not TYPE_CHECKING:  # else no wrong name would be found

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if isinstance(value, SettingsError):
                raise value
            return value


@dataclass(frozen=True)
class ContextSettings:
    """What is copied into the image."""

    folder: str = _setting(".", "the folder that is copied, relative to the project's")
    ignore: tuple[str, ...] = _setting((), "patterns besides those in .dockerignore, in its syntax")
    allow: tuple[str, ...] = _setting(
        (), "files that get in although they look private, in the same syntax"
    )
    max_size: str = _setting("500MB", 'larger than this is an error; "0" sets no limit')


@dataclass(frozen=True)
class ImageSettings(_Section):
    """The image that all nodes run in."""

    base: str = _setting(
        "python:3.11-slim", "the image to build upon; it needs Python 3.10 or newer"
    )
    requirements: str = _setting(
        "requirements.txt", "what pip installs below the code; need not be there"
    )
    platform: str = _setting("linux/amd64", "the cluster's operating system and architecture")
    builder: str = _setting(
        "auto",
        "who makes it: docker, or oci, which needs no engine; auto asks whether one answers",
        choices=("auto", "docker", "oci"),
    )
    python: str = _setting("", "the base's version of Python, such as 3.11; empty finds it out")
    tag: str = _setting("latest", "a name for people; runs take the image by its digest")
    check: bool = _setting(
        True, "import all workflows in it before it is pushed, so that what is missing is said here"
    )
    pin: str = _setting(
        "node",
        "the image of a node: the one in which it last changed, or the newest for the whole pipeline",
        choices=("node", "pipeline"),
    )
    build_env: dict[str, str] = _setting(
        {}, "environment of pip, such as PIP_INDEX_URL", secret=True
    )
    ca_cert: str = _setting("", "certificates that pip trusts, a file; for an index with an own CA")


@dataclass(frozen=True)
class RegistrySettings(_Section):
    """Where the image goes."""

    server: str = _setting("", "host and port, such as registry.example.com:5000")
    repository: str = _setting("fftasks", "the image's name in the registry, such as team/project")
    insecure: bool = _setting(
        False, "ask it in plain http, as is done with localhost; engines have a list of their own"
    )
    ca_cert: str = _setting("", "certificates to trust, a file; for a registry with an own CA")
    username: str = _setting("", "who pushes; empty takes Docker's own login")
    password: str = _setting("", "better ${NAME} than the password itself", secret=True)
    token_server: str = _setting(
        "", "host of a token server in another domain that may receive the password"
    )


@dataclass(frozen=True)
class KFPSettings(_Section):
    """Kubeflow Pipelines."""

    host: str = _setting("http://localhost:8080", "address of Kubeflow Pipelines")
    version: str = _setting(
        "2.17",
        "release of the KFP backend, such as 2.16; determines how large a run may be",
        form=r"2\.[0-9]+(\.[0-9]+)?",
        example="2.17 or 2.16.1",
    )
    namespace: str = _setting("", "the user's namespace, on clusters with several users")
    experiment: str = _setting(
        "Default", "the experiment that runs are listed under; made if it is missing"
    )
    run_name: str = _setting(
        "{workflow}", "name of a run; {workflow} and {pipeline} (digits) are filled in"
    )
    caching: bool = _setting(
        True, "let the cluster take results of unchanged nodes from earlier runs"
    )
    preview: bool = _setting(
        True, "show the beginning of each result in the page of a run, beside its type and shape"
    )
    fuse: str = _setting(
        "limit",
        "nodes that share a pod: none; chains; auto: soonest over; limit: auto if it is too large",
        choices=("none", "chains", "auto", "limit"),
    )
    pod_overhead_s: float = _setting(
        20.0, "seconds that a pod costs before its first node runs, for fuse", least=0
    )
    parallel_pods: int = _setting(50, "how many pods run at a time, for fuse", least=1)
    token: str = _setting("", "bearer token, better ${NAME}", secret=True)
    token_file: str = _setting("", "a file that holds the bearer token, read at each submit")
    cookies: str = _setting(
        "", "cookies of a session, such as authservice_session=...", secret=True
    )
    auth: str = _setting(
        "",
        "who says who you are, if neither token nor cookies do; see docs/how-to/cluster.md",
        choices=("", "service-account", "in-cluster", "kubeconfig", "iap", "google"),
    )
    kube_context: str = _setting("", "for auth: kubeconfig; empty is the current context")
    kube_namespace: str = _setting(
        "kubeflow",
        "where Kubeflow Pipelines is installed; for auth: kubeconfig and in-cluster",
        form=r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
        example="kubeflow or kubeflow-dev",
    )
    iap_client_id: str = _setting("", "for auth: iap, the OAuth client of the proxy")
    iap_user_client_id: str = _setting("", "for auth: iap as a user, the OAuth client of a desktop")
    iap_user_client_secret: str = _setting("", "the secret of that client", secret=True)
    iap_refresh_token: str = _setting("", "what that client was given for the user", secret=True)
    page: str = _setting("", "address of the page for people, if it is not kfp.host")
    ca_cert: str = _setting("", "certificates to trust, a file; for a host with an own CA")
    verify_ssl: bool = _setting(True, "check the host's certificate")
    insecure: bool = _setting(
        False,
        "send credentials also over plain HTTP; not needed for localhost and *.svc names",
    )
    timeout_s: float = _setting(
        30.0,
        "seconds without a byte until a request fails; an answer may take four times as long",
        least=0.1,
    )
    watch: bool = _setting(
        False, "follow a run that was submitted to its end, as `doit submit --watch` does"
    )
    watch_timeout_s: float = _setting(
        0.0, "seconds after which following ends, and the run goes on; 0 sets no bound", least=0.0
    )
    reconnect_timeout_s: float = _setting(
        600.0, "seconds that the host may be away while a run is followed", least=0.0
    )
    labels: dict[str, str] = _setting(
        {}, "what a run says about itself, such as {team: vision}; in its description"
    )
    allow_tokens: tuple[str, ...] = _setting(
        (),
        "arguments and settings to send although they look like secrets, such as [fetch.url]",
    )
    service_account: str = _setting(
        "", "the Kubernetes account that runs work as; empty leaves it to the cluster"
    )
    pipeline_root: str = _setting(
        "",
        "where runs store results, such as s3://bucket/runs; results elsewhere are not read",
    )


@dataclass(frozen=True)
class ObjectStoreSettings(_Section):
    """Where the cluster keeps results, as it is reached from here; for doit result and doit replay."""

    mount: str = _setting(
        "",
        "folder with the mounted buckets; links that lead out of it are not followed",
    )
    endpoint: str = _setting(
        "",
        "address of the store, such as http://localhost:9000 for MinIO; empty is Amazon or Google",
    )
    access_key: str = _setting("", "empty takes what the environment has, as AWS_ACCESS_KEY_ID")
    secret_key: str = _setting("", "better ${NAME} than the key itself", secret=True)
    verify_ssl: bool = _setting(True, "check the store's certificate")


@dataclass(frozen=True)
class LocalSettings:
    """Runs on this machine."""

    isolation: str = _setting(
        "fork",
        "a process per node: fork from a warm one, or a fresh interpreter (slower)",
        choices=("fork", "fresh"),
    )


@dataclass(frozen=True)
class ReportSettings:
    """Pages of `doit report` and `doit board`."""

    previews: bool = _setting(
        True,
        "show values: results, arguments, run parameters, computed names, metrics, logs, messages",
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a project.

    nodes: what is set for nodes, by patterns of their names; later ones win
    origins: dotted key -> where its value was set; "workflows[0]" -> the same for an item
    warnings: sentences that somebody should see
    """

    workflows: tuple[str, ...] = _setting(
        (), "files that build workflows, relative to this project"
    )
    context: ContextSettings = field(default_factory=ContextSettings)
    image: ImageSettings = field(default_factory=ImageSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    kfp: KFPSettings = field(default_factory=KFPSettings)
    object_store: ObjectStoreSettings = field(default_factory=ObjectStoreSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    nodes: tuple[Layer, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    warnings: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def origin(self, key: str) -> str:
        """Return where a value came from: "config/prod.yaml:3", "environment …" or "default"."""
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
_HEAD = (
    '# Settings of this project. What is commented out has its default: take "# " away and change it.',
    "# config/prod.yaml beside it is a profile, with what differs, for `doit profile=prod submit`;",
    "# FFTASKS_KFP__HOST=... beats both. ${NAME} takes a text from the environment.",
)
_NODES_HEAD = (
    "# Single nodes. Instead of __default__ a regular expression, for whole names of nodes, such as",
    '# "train.*"; of several that match, the later one wins, setting by setting, name by name in a mapping.',
)


def _list_settings() -> Iterator[tuple[str, Rule]]:
    """Yield the dotted key of each setting, and what it may be."""
    for top in dataclasses.fields(Settings):
        if top.name in SECTIONS:
            inner = dataclasses.fields(SECTIONS[top.name])
            yield from ((f"{top.name}.{leaf.name}", leaf.metadata["rule"]) for leaf in inner)
        elif "rule" in top.metadata:
            yield top.name, top.metadata["rule"]


RULES: Rules = dict(_list_settings())


def format_default(workflows: tuple[str, ...] = ()) -> str:
    """Return the text of a config/default.yaml: every setting, with the sentence that explains it."""
    lines = [*_HEAD, "", f"# {RULES['workflows'].says}"]
    lines += ["workflows:", *(f"  - {file}" for file in workflows)]
    for section, kind in SECTIONS.items():
        lines += ["", f"# {kind.__doc__}", f"{section}:"]
        for leaf in dataclasses.fields(kind):
            rule = leaf.metadata["rule"]
            lines.append(f"  # {leaf.name}: {json.dumps(rule.default)}  # {rule.says}")
    lines += ["", *_NODES_HEAD, "nodes:", "  # __default__:"]
    for name, rule in NODE_RULES.items():
        lines.append(f"  #   {name}: {json.dumps(rule.default)}  # {rule.says}")
    return "\n".join(lines) + "\n"
