"""Rules of secrets: what is found in files that should stay private, and what is not.

Every key here is made up, and put together from parts, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest

from fftasks.secrets.scanner import FileScanner

MIXED = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY" * 4
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 3
KEY = "-----BEGIN {}PRIVATE KEY{}-----\n{}\n"
PASSWORD = "correct-horse-7"


def find(path: str, text: str | bytes, piece_bytes: int = 0) -> list[tuple[int, str]]:
    data = text if isinstance(text, bytes) else text.encode()
    search = FileScanner(path)
    size = piece_bytes or len(data) + 1
    for begin in range(0, len(data) + 1, size):
        search.feed(data[begin : begin + size], is_last=begin + size > len(data))
    return [(one.line, one.rule) for one in search.list_findings()]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("private-key", KEY.format("RSA ", "", MIXED)),
        ("private-key", KEY.format("", "", MIXED)),
        ("private-key", KEY.format("ENCRYPTED ", "", MIXED)),
        ("private-key", KEY.format("OPENSSH ", "", MIXED)),
        ("private-key", KEY.format("PGP ", " BLOCK", f"Version: GnuPG v2\n\n{MIXED}")),
        ("private-key", KEY.format("RSA ", "", f"Proc-Type: 4,ENCRYPTED\n\n{MIXED}")),
        ("private-key", json.dumps({"private_key": KEY.format("", "", MIXED)})),
        ("private-key", f'KEY = ("{KEY[:11]}PRIVATE KEY-----\\n"\n       "{MIXED}")'),
        ("private-key", KEY.format("", "", MIXED).replace("\n", "\r\n")),
        ("private-key", "PuTTY-User-Key-File-" + "3: ssh-ed25519"),
        ("aws-token", "id = " + "AKIA" + "QWERTZUIOPASDFG2"),
        ("aws-token", "AWS_SECRET_ACCESS_KEY" + f"={MIXED[:40]}"),
        ("azure-token", "AccountName=a;AccountKey=" + MIXED[:86] + "=="),
        ("azure-token", "secret: " + "aB1" + "8Q~" + MIXED[:33]),
        ("google-token", "key=" + "AIza" + MIXED[:35]),
        ("google-token", "GOCSPX-" + MIXED[:28]),
        ("google-token", "ya29." + MIXED),
        ("google-token", '"refresh_token": "1//0' + MIXED + '"'),
        ("github-token", "ghp_" + MIXED[:36]),
        ("github-token", "github_pat_" + MIXED[:82]),
        ("gitlab-token", "glpat-" + MIXED[:20]),
        ("slack-token", "xoxb-" + "123412341234-" + MIXED[:24]),
        ("slack-token", "https://hooks.slack.com/services/" + "T1234ABCD/B1234ABCD/" + MIXED[:24]),
        ("huggingface-token", 'login("hf_' + MIXED[:34] + '")'),
        ("openai-token", "sk-proj-" + MIXED[:40] + "T3BlbkFJ" + MIXED[:40]),
        ("anthropic-token", "sk-ant-" + "api03-" + MIXED[:95]),
        ("wandb-token", 'wandb.login(key="' + HEX[:40] + '")'),
        ("wandb-token", f"WANDB_API_KEY={HEX[:40]}"),
        ("pypi-token", "pypi-" + "AgEIcHlwaS5vcmc" + MIXED[:60]),
        ("npm-token", "npm_" + MIXED[:36]),
        ("stripe-token", "sk_live_" + MIXED[:24]),
        ("sendgrid-token", "SG." + MIXED[:22] + "." + MIXED[:43]),
        ("databricks-token", "dapi" + HEX[:32]),
        ("docker-token", "dckr_pat_" + MIXED[:27]),
        ("vault-token", "hvs." + MIXED[:30]),
        ("json-web-token", "Bearer eyJ" + MIXED[:20] + ".eyJ" + MIXED[:40] + "." + MIXED[:43]),
        ("password-in-url", f"--index-url https://me:{PASSWORD}@pypi.corp/simple"),
        ("password-in-url", f'create_engine("postgresql://me:{PASSWORD}@db:5432/x")'),
        ("registry-login", json.dumps({"auths": {"a.io": {"auth": MIXED[:20]}}})),
        ("kubernetes-login", f"    client-key-data: {MIXED}"),
    ],
)
def test_found_in_any_file(rule, text):
    assert [found for _, found in find("notes/any.txt", f"first\nsecond\n{text}\n")] == [rule]


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("kaggle-token", ".kaggle/kaggle.json", f'{{"username": "me", "key": "{HEX[:32]}"}}'),
        ("kubernetes-login", ".kube/config", f"users:\n- user:\n    token: {MIXED}\n"),
        ("kubernetes-login", "prod.kubeconfig", f"users:\n- user:\n    password: {PASSWORD}"),
        ("registry-login", ".docker/config.json", '{"auths": {"x": {"auth": "bWU6c2Vj"}}}'),
        ("aws-token", ".aws/credentials", f"[default]\naws_secret_access_key = {MIXED[:40]}"),
        ("dotenv", ".env", f"DB_PASSWORD={PASSWORD}"),
        ("dotenv", "app/.env.local", "# comment\n\nexport API_TOKEN='tiger-7!'"),
        ("dotenv", "prod.env", f"EMPTY=\nSMTP_PASS: {PASSWORD}"),
        ("login-file", ".netrc", f"machine a login b password {PASSWORD}"),
        ("login-file", "_netrc", f"machine a\n  login b\n  password {PASSWORD}"),
        ("login-file", ".pypirc", f"[pypi]\nusername = b\npassword = {PASSWORD}"),
        ("password-in-config", "compose.yml", f"environment:\n  DB_PASSWORD: {PASSWORD}"),
        ("password-in-config", "app.ini", f"[db]\npassword = {PASSWORD}"),
        ("password-in-config", "a.json", f'{{"a": 1, "db_password": "{PASSWORD}"}}'),
        ("password-in-config", "a.toml", f'passphrase = "{PASSWORD}"'),
        ("key-in-config", "a.yaml", f"api_key: {MIXED[:20]}"),
        ("key-in-config", ".npmrc", f"//registry.corp/:_authToken={MIXED[:36]}"),
        ("key-store", "server.p12", b"\0\1binary"),
        ("key-store", "gcloud/credentials.db", b"SQLite\0"),
        ("key-store", "a/.config/gcloud/application_default_credentials.json", "{}"),
        ("key-store", ".git-credentials", "x"),
        ("key-store", ".streamlit/secrets.toml", "x = 1"),
    ],
)
def test_found_in_files_of_that_name(rule, path, text):
    assert rule in [found for _, found in find(path, text)]


@pytest.mark.parametrize(
    "line",
    [
        "registry: {server: a, password: x}",
        "  password: x",
        "  password: '0'",
        '  "token": "abc"',
        "  cookies: authservice_session=abc",
        "  # password: old",
        "  password: |-\n    on the next line",
        "  password: !!str 5",
        "  password: $${NAME}",
    ],
)
@pytest.mark.parametrize("path", ["config/default.yaml", "sub/config/prod.yaml"])
def test_plain_setting_of_this_project_is_found(path, line):
    assert find(path, f"workflows: [a.py]\n{line}\n") == [(2, "plain-setting")]


@pytest.mark.parametrize(
    "line",
    [
        "  password: ${REGISTRY_PASSWORD}",
        "  password: prefix-${NAME}",
        '  # password: ""  # better ${NAME} than the password itself',
        "  password: ''",
        "  password:",
        "  password: null",
        "  password: ~",
        "  token_file: /run/token",
        "  username: me",
    ],
)
def test_setting_from_elsewhere_is_none(line):
    assert find("config/prod.yaml", f"registry:\n{line}\n") == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "password = 'hunter2'; token = get_token(); api_key: str = None"),
        ("a.py", 'if line.startswith("-----BEGIN PRIVATE KEY-----"):\n    pass'),
        ("a.md", "-----BEGIN RSA PRIVATE KEY-----\nMIIE...\n-----END RSA PRIVATE KEY-----"),
        ("a.pem", "-----BEGIN PUBLIC KEY-----\n" + MIXED),
        ("a.md", "AKIA" + "IOSFODNN7EXAMPLE and " + "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("a.md", "export GITHUB_TOKEN=ghp_" + "x" * 36),
        ("a.md", "hf_" + "A" * 34),
        ("a.md", "postgresql://user:password@db/x, https://${USER}:${PASSWORD}@host/"),
        ("a.md", "https://me:secret-word@localhost/ and https://me:secret-word@git.example.com"),
        ("a.md", "https://host:8080/a@b, http://[::1]:80/@x, git+ssh://git@host:22/x"),
        ("a.py", 'f"https://{user}:{password}@{host}/"'),
        ("tokenizer.json", '{"bos_token": "<s>", "eos_token": "</s>", "access_token": ""}'),
        ("a.yaml", "password: ${PASSWORD}\npassword: <set me>\npassword: '{{ password }}'\n"),
        ("a.yaml", "password: changeme\npassword_file: /run/secrets/x\nmax_password: 5\n"),
        ("schema.json", '{"password": {"type": "string"}, "api_key": "string"}'),
        ("a.yaml", "api_key: name-of-a-kubernetes-secret"),
        (".env.example", "A=1"),
        (".env", "# nothing\nEMPTY=\n"),
        ("environment.env.md", "A=1"),
        ("a.csv", "id,hash\n" + "\n".join(HEX for _ in range(50))),
        ("uv.lock", f'sdist = {{ hash = "sha256:{HEX[:64]}" }}'),
        ("Dockerfile", "RUN --mount=type=secret,id=token pip install x"),
    ],
)
def test_not_taken_for_a_secret(path, text):
    assert find(path, text) == []


def test_standard_library_is_clean():
    root = Path(sysconfig.get_paths()["stdlib"])

    found = {
        str(path): find("/".join(path.parts[-2:]), path.read_bytes())
        for path in root.glob("*/*.py")
    }

    assert len(found) > 100
    assert [path for path, findings in found.items() if findings] == []


@pytest.mark.parametrize("text", ["PASSWORD: db/password\n", "{PASSWORD: 'db/DB_PASSWORD', A: 1}",
                                  "API_KEY: service-2-production/api-key-1"])  # fmt: skip
def test_a_reference_to_a_secret_is_none(text):
    # as in secret_env of a node's settings
    assert find("config/default.yaml", text) == []


@pytest.mark.parametrize(
    "text", ["PASSWORD: Db/f4lcon", "PASSWORD: db/f4lconOslo9x", "PASSWORD: a4/b/f4lcon"]
)
def test_what_only_resembles_a_reference_is_found(text):
    assert find("config/default.yaml", text) == [(1, "password-in-config")]
