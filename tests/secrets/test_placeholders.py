"""What counts as a literal secret, and what stands in the place of one."""

# ruff: noqa: E501 - a case is one line

from __future__ import annotations

import base64
import json
import random
import string

import pytest

from fftasks.secrets.placeholders import is_placeholder, is_random_key
from tests.secrets.test_rules import MIXED, find

LETTERS = "".join(random.Random(14).choices(string.ascii_letters, k=40))
UUID = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.mark.parametrize(
    "value",
    [
        "${TOKEN}", "${DB:-x}", "$(cat", "$(cat /run/x)", "{{ token }}", "{{.Values.a}}", "<your-token>",
        "<token>", "%TOKEN%", "%(token)s", "{token}", "#{token}", "@TOKEN@", "__TOKEN__", "!vault", "!Ref",
        "*db_password", "/run/secrets/token", "$DB_PASSWORD", "os.environ['A']", "get_token('A')",
        "base64decode(", "getToken(", "env:TOKEN", "arn:aws:secretsmanager:eu-1:12:secret:a-b", "[redacted]",
        "my-example-2", "ExamplePassword1", "AKIAIOSFODNN7EXAMPLE", "changeme", "cGFzc3dvcmQ=",
    ],
)  # fmt: skip
def test_reference_and_example_are_placeholders(value):
    assert is_placeholder(value.encode())


@pytest.mark.parametrize("sign", ["!", "<", "*", "@", "&", "^", "%", "[", "{", "+", "/", "$$"])
@pytest.mark.parametrize("end", ["", "(", ")", ">", "!"])
def test_password_may_begin_and_end_with_any_sign(sign, end):
    value = f"{sign}kT4vQ9-wZ2xLm7{end}"

    assert not is_placeholder(value.encode())
    assert find(".env", f"DB_PASSWORD='{value}'\n") == [(1, "dotenv")]


def test_word_example_inside_of_random_text_is_no_example():
    assert not is_placeholder(b"xK9pexample7QzT4vR2")
    assert not is_placeholder(b"aB3dFAKE5fG7hJ9kL1mN2pQ4")


@pytest.mark.parametrize("path", [".env", "app.yaml"])
@pytest.mark.parametrize(
    "content",
    [
        {"user": "robot", "token": MIXED[:24]},
        {"api_address": "https://app.neptune.ai", "api_key": UUID},
        {"type": "service_account", "private_key_id": HEX, "client_email": "a@example.com"},
        ["robot", MIXED[:24]],
    ],
)
def test_base64_of_a_document_is_no_placeholder(path, content):
    value = base64.b64encode(json.dumps(content).encode()).decode()
    line = f"API_TOKEN={value}" if path == ".env" else f"api_token: {value}"

    assert len(find(path, line + "\n")) == 1


def test_long_random_letters_are_a_key_without_a_digit():
    assert is_random_key(LETTERS[:32].encode())
    assert find("a.py", f'headers = {{"x-api-key": "{LETTERS}"}}') == [(1, "key-in-code")]


@pytest.mark.parametrize(
    "name",
    ["UsersUpdatePasswordMeResponseWithStatusCode", "the-name-of-the-key-in-the-secret-of-the-cluster"],
)  # fmt: skip
def test_long_name_is_no_key(name):
    assert not is_random_key(name.encode())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.yaml", f"api_token: |\n  {MIXED[:32]}\n"),
        ("a.yaml", f"a:\n  api_key: >-\n    {MIXED[:32]}\n"),
        ("a.json", f'[{{"name": "API_TOKEN", "value": "{MIXED[:32]}"}}]'),
        ("a.json", f'[{{"value": "{MIXED[:32]}", "name": "API_TOKEN"}}]'),
        ("a.yaml", f"- name: API_TOKEN\n  value: {MIXED[:32]}\n"),
        ("a.yaml", f"- value: {MIXED[:32]}\n  name: API_TOKEN\n"),
        ("a.yaml", "- value: kT4vQ9-wZ2x\n  name: DB_PASSWORD\n"),
        ("a.json", '{"key": "DB_PASSWORD", "value": "kT4vQ9-wZ2x"}'),
    ],
)
def test_name_and_value_may_stand_apart(path, text):
    assert [rule.partition("-in-")[0] for _, rule in find(path, text)] in (["key"], ["password"])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.json", f'{{"AWS::SecretsManager::Secret": "{HEX}"}}'),
        ("a.json", f'{{"Some::Custom::Token": "{HEX}{HEX}"}}'),
        *(
            ("a.json", f'{{"{name}": "{value}"}}')
            for name in ("clientRequestToken", "LifecycleActionToken", "nextToken", "pageToken",
                         "next_token", "clientToken", "continuation-token", "NextPageToken",
                         "idempotencyToken", "client_request_token")
            for value in (UUID, UUID.replace("-", "") if name != "clientToken" else UUID)
        ),
        ("sealed.yaml", f"kind: SealedSecret\nspec:\n  encryptedData:\n    password: Ag{MIXED}\n    token: Ag{MIXED}\n"),
        ("a.yaml", f"encrypted_password: {MIXED}\nencryptedToken: {MIXED}\n"),
        ("a.yaml", "- name: DB_PASSWORD\n  value: ${DB_PASSWORD}\n- name: TOKEN_URL\n  value: https://a.corp.net\n"),
        ("a.yaml", "- name: MAX_TOKENS\n  value: '4096'\n- name: TOKENIZER\n  value: bert-base-2\n"),
        ("a.py", "password = str(os.environ['DB_PASSWORD'])\npassword = Field(default='', title='Password 1!')\n"),
    ],
)  # fmt: skip
def test_innocent_value_with_a_name_of_a_secret(path, text):
    assert find(path, text) == []


@pytest.mark.parametrize(
    "line",
    [
        "password = SecretStr('{}')",
        "password = str('{}')",
        "password: SecretStr = Field(default='{}')",
        "password: str = pydantic.Field('{}')",
        "password = os.getenv('DB_PASSWORD') or '{}'",
        "password = config.get('db') or '{}'",
        "parser.add_argument('--password', default='{}')",
        "parser.add_argument('--password', type=str, default='{}')",
    ],
)
def test_value_that_a_call_wraps_is_found(line):
    assert find("a.py", line.format("kT4vQ9-wZ2xLm7") + "\n") == [(1, "password-in-code")]


@pytest.mark.parametrize(
    "host", ["{host}", "%s", "${DB_HOST}", "$DB_HOST", "{{ host }}", "%(host)s"]
)
def test_password_in_a_url_counts_whatever_its_host_is(host):
    assert find("a.py", f'URL = "postgresql://app:kT4vQ9wZ2xLm7@{host}/db"') == [
        (1, "password-in-url")
    ]


@pytest.mark.parametrize(
    "path", [".env.bak", ".env~", "a.jsonl", "a.yaml.j2", "a.json.log", "a.yaml.bak", ".env.old"]
)
def test_copy_counts_as_what_it_is_a_copy_of(path):
    assert (
        len(
            find(
                path,
                '"password": "kT4vQ9-wZ2xLm7"\n'
                if ".env" not in path
                else "PASSWORD=kT4vQ9-wZ2xLm7",
            )
        )
        == 1
    )


@pytest.mark.parametrize(
    ("path", "is_test"),
    [
        ("tests/a.yaml", True),
        ("pkg/test/a.yaml", True),
        ("a/testdata/b/c.yaml", True),
        ("tests/data/a.yaml", True),
        ("ui/__tests__/a.yaml", True),
        ("data/test/a.yaml", False),
        ("a/data/x/tests/a.yaml", False),
        ("config/test/a.yaml", False),
        ("src/test_model.py", False),
        ("contest/a.yaml", False),
    ],
)
def test_folders_of_tests(path, is_test):
    text = "password = 'kT4vQ9-wZ2xLm7'" if path.endswith("py") else "password: kT4vQ9-wZ2xLm7"

    assert (find(path, text) == []) is is_test


def test_password_in_a_url_of_a_dotenv_file_counts_in_tests():
    url = "postgresql://app:kT4vQ9wZ2xLm7@db.corp.net/x"

    assert find("tests/.env", f"A={url}\nDB_PASSWORD=kT4vQ9-wZ2xLm7\n") == [(1, "password-in-url")]
    assert find("tests/.env.example", f"A={url}\n") == []
