"""Who we are to Kubeflow Pipelines, where kfp.auth names somebody who says so.

    service-account   the token that Kubernetes puts into a pod for KFP, from a file that it renews
    in-cluster        the same if it is there; and the address of the service in the pod's own cluster
    kubeconfig        whatever kubectl uses: token, certificate, program; through the cluster's API server
    iap               Google's identity-aware proxy, as a service account or as a user
    google            Google's account of this machine, for hosts of Google only

As kfp.Client does it, and by its code where it has some, but for what it writes into ~/.config. An answer
is kept for some minutes in this process: a run that is followed asks every few seconds.
"""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fftasks.errors import SettingsError

if TYPE_CHECKING:
    from fftasks.settings import KFPSettings

_KEPT_S = 300.0
# as kfp.client has them; to import it takes half a second
TOKEN_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105 - the name of a variable
TOKEN_PATH = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - a path
SERVICE = "http://ml-pipeline.{}.svc.cluster.local:8888"
# description of the credential in messages; it may only be sent to hosts of Google
GOOGLE_TOKEN = "the Google access token of kfp.auth: google"  # noqa: S105 - a description
_PROXY = "{}/api/v1/namespaces/{}/services/ml-pipeline:http/proxy"


@dataclass(frozen=True)
class Identity:
    """What somebody says: a token or a certificate; and the host, "" for that of the settings."""

    token: str = field(default="", repr=False)
    host: str = ""
    ca_cert: str = ""
    verify_ssl: bool = True
    certificate: tuple[str, str] | None = field(default=None, repr=False)


_kept: dict[KFPSettings | tuple[object, ...], tuple[float, Identity]] = {}


# Raises SettingsError unless a credential, described in words, may be sent to a host; "" is kfp.host.
Check = Callable[[str, str], None]


def identify(settings: KFPSettings, check: Check) -> Identity:
    """Return the credentials that kfp.auth names.

    Args:
        settings: kfp.auth must be set.
        check: Called with the host and a description of the credential before the credential is requested.

    Raises:
        SettingsError: There is no credential, or check() raises this error.
    """
    credential = f"the token of kfp.auth: {settings.auth}"
    if settings.auth == "service-account":
        check("", credential)
        return Identity(read_token(_find_token_file(settings), "kfp.auth: service-account"))
    if settings.auth == "in-cluster":
        host = SERVICE.format(settings.kube_namespace)
        path = _find_token_file(settings)
        if not Path(path).is_file():
            return Identity("", host)
        check(host, credential)
        return Identity(read_token(path, "kfp.auth: in-cluster"), host)
    if settings.auth == "kubeconfig":
        found = _keep(settings, functools.partial(_ask_kubectl, check=check))
        if found.token:
            check(found.host, credential)
        return found
    check("", GOOGLE_TOKEN if settings.auth == "google" else credential)
    return _keep(settings, {"iap": _ask_proxy, "google": _ask_google}[settings.auth])


def read_token(path: str, key: str) -> str:
    """Return what a file holds; raise SettingsError with the setting's name, key."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        tip = "the token is read from this file: is its path right, seen from the project's folder?"
        raise SettingsError(f"{key}: cannot read {path}", found=[reason], tip=tip) from error


def _keep(settings: KFPSettings, ask: Callable[[KFPSettings], Identity]) -> Identity:
    key = (
        *(settings.auth, settings.kube_context, settings.kube_namespace, settings.iap_client_id),
        *(settings.iap_user_client_id, settings.iap_refresh_token, os.environ.get("KUBECONFIG")),
        os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"),
    )
    now = time.monotonic()
    if key not in _kept or now - _kept[key][0] > _KEPT_S:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kfp warns of itself on import
            _kept[key] = (now, ask(settings))
    return _kept[key][1]


def _find_token_file(settings: KFPSettings) -> str:
    return settings.token_file or os.environ.get(TOKEN_VARIABLE) or TOKEN_PATH


def _ask_kubectl(settings: KFPSettings, check: Check) -> Identity:
    from kubernetes import client, config
    from kubernetes.config import kube_config

    found = client.Configuration()
    context = settings.kube_context or None
    try:
        merged = kube_config.KubeConfigMerger(kube_config.KUBE_CONFIG_DEFAULT_LOCATION).config
        loader = kube_config.KubeConfigLoader(merged, context, config_base_path=None)
        current = loader.current_context["context"]
        user = merged["users"].get_with_name(current.get("user"), safe=True)
        if user and user.value.get("user"):
            # before the configuration is loaded, which may run a program that requests a token
            cluster = merged["clusters"].get_with_name(current["cluster"])["cluster"]
            check(cluster["server"], "the token of kfp.auth: kubeconfig")
        loader.load_and_set(found)
    except (config.ConfigException, OSError, ValueError) as error:
        raise SettingsError(
            "kfp.auth: kubeconfig: kubectl's file cannot be used",
            found=[str(error).splitlines()[0]],
            tip="does `kubectl get pods` work? kfp.kube_context and KUBECONFIG say which is taken",
        ) from error
    token = str(found.api_key.get("authorization", "")).removeprefix("Bearer ")
    return Identity(
        token=token,
        host=_PROXY.format(found.host.rstrip("/"), settings.kube_namespace),
        ca_cert=found.ssl_ca_cert or "",
        verify_ssl=bool(found.verify_ssl),
        certificate=(found.cert_file, found.key_file) if found.cert_file else None,
    )


def _ask_proxy(settings: KFPSettings) -> Identity:
    if not settings.iap_client_id:
        raise SettingsError("kfp.auth: iap: kfp.iap_client_id is not set")
    from kfp.client import auth

    client_id = settings.iap_client_id
    if settings.iap_refresh_token:
        user = (settings.iap_user_client_id, settings.iap_user_client_secret)

        def ask() -> Any:
            return auth.id_token_from_refresh_token(*user, settings.iap_refresh_token, client_id)

    else:

        def ask() -> Any:
            return auth.get_auth_token_from_sa(client_id)

    tip = (
        "GOOGLE_APPLICATION_CREDENTIALS names the file of a service account; a user sets "
        "kfp.iap_user_client_id, kfp.iap_user_client_secret and kfp.iap_refresh_token"
    )
    return Identity(_ask(ask, "kfp.auth: iap: Google gives no token", tip))


def _ask_google(settings: KFPSettings) -> Identity:  # noqa: ARG001 - one of three
    from kfp.client import auth

    tip = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS"
    return Identity(_ask(auth.get_gcp_access_token, "kfp.auth: google: Google gives no token", tip))


def _ask(ask: Callable[[], Any], attempted: str, tip: str) -> str:
    try:
        token = ask()
    except Exception as error:  # of google.auth, requests and kfp; none says what to do
        problem = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SettingsError(attempted, found=[problem[:300]], tip=tip) from error
    if not token or token == "None":  # noqa: S105 - kfp makes a text of what is missing
        raise SettingsError(attempted, tip=tip)
    return str(token)
