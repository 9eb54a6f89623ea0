"""Secrets in arguments, run parameters, names and settings: none of them leaves this machine."""

from __future__ import annotations

import json
import shlex

import pytest

from fftasks.errors import WorkflowError
from fftasks.kfp.task_details import ClusterTask
from fftasks.pipeline.secret_check import (
    OutgoingSecret,
    _refuse,
    find_unused_allowances,
    list_outgoing_secrets,
)
from fftasks.pipeline.workflow_stages import plan_submit
from fftasks.project import open_project
from fftasks.records import digest_bytes, read_record, write_record
from fftasks.report.run_status import suggest_kubectl
from fftasks.secrets.scanner import hide_tokens
from fftasks.secrets.secret_names import is_secret_name, list_secret_variables
from fftasks.stage import execute_stage
from tests.sample import Sample
from tests.services.kfp_server import KFPServer
from tests.submitted_project import make_project, submit_project

MIDDLE = "a1B2c3D4e5F6"
TOKEN = "ghp_" + MIDDLE * 3
HEAD = f"""
import dataclasses, enum, functools, os, pathlib, queue, re, types
from collections import namedtuple
from fftasks import Parameter, Workflow, workflow

TOKEN = "ghp_" + "{MIDDLE}" * 3
KEY = "-----BEGIN " + "PRIVATE KEY-----\\n" + "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 3

@dataclasses.dataclass
class Config:
    name: str
    password: str

class Slotted:
    __slots__ = ("inner",)
    def __init__(self, inner):
        self.inner = inner

class Text(str):
    pass

Pair = namedtuple("Pair", "user secret")
Kind = enum.Enum("Kind", {{"ONE": TOKEN}})

def use(x, y=None):
    return x

def close_over(value):
    return lambda: value

@workflow
def fetch(options, *rest, **more):
    return 1

@workflow
def other(value=None):
    return 2
"""
TAIL = '\nWorkflow(fetch({}).set_name("fetch it"), other(1).set_name("innocent"), name="w")\n'
PLACES = {
    "TOKEN": "options",
    'f"Bearer {TOKEN}"': "options",
    "[1, [TOKEN]]": "options[1][0]",
    '{"auth": {"token": TOKEN}}': 'options["auth"]["token"]',
    '{TOKEN: "x"}': "options, a key",
    "{1, TOKEN}": "options",
    "(1, (2, TOKEN))": "options[1][1]",
    "TOKEN.encode()": "options",
    "bytearray(TOKEN.encode())": "options",
    'TOKEN.encode("utf-16")': "options",
    'Config("me", TOKEN)': "options.password",
    '[Config("me", {"deep": TOKEN})]': 'options[0].password["deep"]',
    "Slotted(TOKEN)": "options.inner",
    "Text(TOKEN)": "options",
    'Pair("me", TOKEN)': "options.secret",
    "Kind.ONE": "options.value",
    "types.SimpleNamespace(a=TOKEN)": "options.a",
    "functools.partial(use, y=TOKEN)": 'options["y"]',
    "close_over(TOKEN)": "options, value in it",
    'pathlib.PurePosixPath("/x", TOKEN)': "options",
    "re.compile(TOKEN)": "options[0]",
    "KEY": "options",
    '"https://me:" + "hunter2secret" + "@host.internal/x"': "options",
    "1, 2, TOKEN": "rest_1",
    "1, extra=TOKEN": "extra",
    'other(TOKEN).set_name("upstream")': "value",
    'Parameter("key", default=TOKEN)': "options (default of run parameter key)",
    '[Parameter("key", default={"a": [TOKEN]})]': (
        'options[0] (default of run parameter key)["a"][0]'
    ),
}  # fmt: skip


def make(root, call, settings=""):
    sample = Sample.make(root, HEAD + TAIL.format(call))
    sample.write("config/default.yaml", f"workflows: [wf.py]\n{settings}")
    return sample


def find_files(sample, *texts):
    """Return the files of the state folder that hold one of some texts."""
    paths = [path for path in (sample.root / ".fftasks").rglob("*") if path.is_file()]
    return sorted(
        path.relative_to(sample.root / ".fftasks").parts[0]
        for path in paths
        if any(text.encode() in path.read_bytes() for text in texts)
    )


@pytest.mark.parametrize("call", PLACES)
def test_a_token_at_any_place_of_an_argument_is_refused_before_anything_is_made(tmp_path, call):
    sample = make(tmp_path, call)

    output = sample.doit("submit", code=3)

    node = "upstream" if "upstream" in call else "fetch it"
    assert f"wf.py:{len((HEAD + TAIL).splitlines())}: " in output
    assert f"node '{node}', argument {PLACES[call]}: " in output
    assert f'nodes: {{"{node}": {{secret_env: {{NAME: SECRET/KEY}}}}}}' in output
    assert output.count("\nsubmit: ") <= 1
    assert MIDDLE not in output
    assert "MIIEvQIB" not in output
    assert "hunter2" not in output
    assert not (tmp_path / ".fftasks" / "context").exists()
    assert not (tmp_path / ".fftasks" / "tasks").exists()


@pytest.mark.parametrize(
    "stage", ["tasks", "pins", "components", "pipeline", "submit", "upload", "schedule"]
)
def test_all_stages_and_commands_that_send_something_refuse_it(tmp_path, stage):
    sample = make(tmp_path, "TOKEN")
    names = ["0 0 6 * * *"] if stage == "schedule" else []

    output = sample.doit(stage, *names, code=3)

    assert "node 'fetch it', argument options: github-token" in output
    assert MIDDLE not in output


NAMED = {
    'password="tiger-" + "77x"': "password",
    'smtp_pass="tiger-" + "77x"': "smtp_pass",
    '{"aws_secret_access_key": "tiger0X1" * 5}': 'options["aws_secret_access_key"]',
    '{"db": {"passwords": ["a", "tiger-" + "77x"]}}': 'options["db"]["passwords"][1]',
    'Config("me", "tiger-" + "77x")': "options.password",
    '["run", "--password", "tiger-" + "77x"]': "options[2]",
    '"--password " + "tiger-77x"': "options",
    '"curl -u admin:" + "tiger-77x"': "options",
    '"Server=x;Password=" + "tiger-77x;"': "options",
    '"Authorization: Bearer " + "tiger0X1" * 5': "options",
    'Parameter("db_password", default="tiger-" + "77x")': (
        "options (default of run parameter db_password)"
    ),
    "Text2('x')": "options.inner",
    "Pair2('a', 'b')": "options.inner",
    "Broken({'a': TOKEN})": 'options["a"]',
    "View()": "options.inner",
}  # fmt: skip
MORE = """
class Text2(str):
    inner = property(lambda self: self.__dict__["inner"])
    def __init__(self, _):
        self.__dict__["inner"] = TOKEN
class Pair2(Pair):
    def __init__(self, *_):
        self.inner = TOKEN
class Broken(dict):
    def __iter__(self):
        raise ValueError
class View(__import__("collections").abc.Mapping):
    def __init__(self):
        self.inner = TOKEN
    def __iter__(self):
        raise ValueError
    __len__ = __getitem__ = lambda *_: 1
"""


@pytest.mark.parametrize("call", NAMED)
def test_a_secret_by_its_name_or_in_an_attribute_of_a_container_is_refused(tmp_path, call):
    text = (
        HEAD
        + MORE
        + TAIL.format(call if "=" not in call.partition("(")[0].partition('"')[0] else f"1, {call}")
    )

    output = Sample.make(tmp_path, text).doit("submit", code=3)

    assert f"argument {NAMED[call]}: " in output
    assert "tiger" not in output
    assert MIDDLE not in output


def test_a_literal_that_is_named_like_a_secret_can_be_allowed(tmp_path):
    sample = make(
        tmp_path, "1, password='tiger-77x'", "kfp:\n  allow_tokens: ['fetch it.password']\n"
    )

    assert "warning" not in sample.doit("tasks")
    assert find_files(sample, "tiger-77x") == []


def test_all_places_are_said_at_once(tmp_path):
    output = make(tmp_path, "TOKEN, [TOKEN], a={'b': TOKEN}").doit("submit", code=3)

    assert "3 secrets would be stored" in output
    assert [f"argument {place}: " in output for place in ("options", "rest_0[0]", 'a["b"]')] == [
        True
    ] * 3


@pytest.mark.parametrize(
    "call",
    [
        'os.environ["SERVICE_PASSWORD"]',
        'os.getenv("SERVICE_PASSWORD")',
        'dict(os.environ)["SERVICE_PASSWORD"]',
        'os.environ.pop("SERVICE_PASSWORD")',
        '"postgresql://me:%s@db" % os.environ["SERVICE_PASSWORD"]',
        '[Config("me", os.environ["SERVICE_PASSWORD"])]',
        'os.environ["SERVICE_PASSWORD"].encode()',
    ],
)
def test_the_value_of_a_variable_that_is_called_like_a_secret_is_one(tmp_path, call):
    sample = make(tmp_path, call)

    output = sample.doit("submit", code=3, SERVICE_PASSWORD="correct horse")

    assert "the value of SERVICE_PASSWORD" in output or "password-in-url" in output
    assert "secret_env: {" in output
    assert "correct horse" not in output
    assert find_files(sample, "correct horse") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENIZERS_PARALLELISM", "false-false"),
        ("API_TOKEN_FILE", "run-secrets-token"),
        ("SECRET_NAME", "my-database-secret"),
        ("PASSWORD_MIN_LENGTH", "123456789"),
        ("MY_PASSWORD", "short"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json"),
        ("HOSTNAME_OF_X", "a-machine-somewhere"),
    ],
)
def test_other_variables_may_be_arguments(tmp_path, name, value):
    sample = make(tmp_path, f'os.environ["{name}"]')

    sample.doit("tasks", **{name: value})

    assert "tasks" in find_files(sample, value)


@pytest.mark.parametrize(
    "call",
    [
        '"the token of the sentence"',
        '"ghp_" + "x" * 36',
        '{"password": "changeme", "token": None, "secret": "db/password"}',
        '"3f786850e387550fdab836ed7e6dc881de23001b"',
        '"sha256:" + "0f" * 32',
        '"https://user@host/path?token=${TOKEN}"',
        '"postgresql://me:${PASSWORD}@db/x"',
        "[1, 2.5, True, None]",
        "1, token='bert-base-uncased', tokens=['a', 'b'], key='id', password=''",
        "1, secret_name='db/creds', pass_through='Value-77x', author='tiger-77x'",
        "bytes(range(256))",
        "range(10**9)",
    ],
)
def test_what_only_resembles_a_secret_passes(tmp_path, call):
    output = make(tmp_path, call).doit("tasks")

    assert "warning" not in output


def test_a_value_that_holds_itself_or_is_huge_ends_the_search(tmp_path):
    text = HEAD + "\nring = types.SimpleNamespace()\nring.inner = [ring]\n"
    text += "many = [[str(n)] for n in range(100_000)]\n"
    sample = Sample.make(tmp_path, text + TAIL.format("ring, many"))

    assert "refuses" not in sample.doit("tasks")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("nodes:\n  fetch it:\n    env: {A: '${GH}'}\n", "yaml:4: node 'fetch it', setting env.A"),
        ("nodes:\n  fetch it:\n    env: {'A': 'x ${PLAIN_SECRET}'}\n", "the value of PLAIN_SECRET"),
        ("nodes:\n  fetch it:\n    annotations: {note: '${GH}'}\n", "setting annotations.note"),
        ("nodes:\n  fetch it:\n    display_name: '${GH}'\n", "setting display_name"),
        ("kfp:\n  run_name: 'x ${GH}'\n", "config/default.yaml:3: setting kfp.run_name"),
        ("kfp:\n  labels: {a: '${GH}'}\n", "setting kfp.labels"),
        ("kfp:\n  experiment: '${GH}'\n", "setting kfp.experiment"),
        ("kfp:\n  token: '${KFP}'\n  experiment: 'my ${KFP} runs'\n", "the value of setting kfp.token"),
    ],
)  # fmt: skip
def test_a_secret_in_a_setting_that_is_sent_is_refused(tmp_path, settings, said):
    sample = make(tmp_path, "1", settings)

    output = sample.doit(
        "submit", code=3, GH=TOKEN, PLAIN_SECRET="correct horse", KFP="blue-whale-9"
    )

    assert said in output
    assert not any(text in output for text in (MIDDLE, "correct horse", "blue-whale-9"))


def test_the_value_of_a_setting_that_is_a_secret_is_refused_as_an_argument(tmp_path):
    sample = make(tmp_path, '"blue-whale" + "-99"', "registry:\n  password: '${PW}'\n")

    output = sample.doit("submit", code=3, PW="blue-whale-99")

    assert "argument options: the value of setting registry.password" in output


def test_a_secret_that_the_code_sets_for_a_node_is_refused(tmp_path):
    text = HEAD + 'w = Workflow(fetch(1).set_name("fetch it"), name="w")\n'
    sample = Sample.make(tmp_path, text + 'w.query("fetch it").set(env={"A": TOKEN})\n')

    assert "github-token" in sample.doit("submit", code=3)


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ('Workflow(fetch(1).set_name("x " + TOKEN), name="w")', "a node's name"),
        ('Workflow(fetch(1), name="x " + TOKEN)', "a workflow's name"),
        ('Workflow(fetch(Parameter("a", 1, help=TOKEN)), name="w")', "a workflow's help of a"),
    ],
)
def test_a_secret_in_a_name_is_refused_and_not_said(tmp_path, tail, said):
    output = Sample.make(tmp_path, HEAD + tail).doit("submit", code=3)

    assert said in output
    assert MIDDLE not in output


def test_a_secret_as_the_value_of_a_run_parameter_is_refused(tmp_path):
    sample = make(tmp_path, 'Parameter("key", default="none")')

    output = sample.doit("submit", f"key={TOKEN}", code=3)

    assert "command line: run parameter key: github-token" in output
    assert MIDDLE not in output


def test_what_is_no_secret_can_be_allowed_and_does_not_travel_then(tmp_path):
    sample = make(tmp_path, "TOKEN", "kfp:\n  allow_tokens: ['fetch it.options']\n")

    output = sample.doit("tasks")

    assert "warning" not in output
    assert find_files(sample, MIDDLE) == []


def test_only_what_is_named_is_allowed(tmp_path):
    sample = make(tmp_path, "TOKEN, TOKEN", "kfp:\n  allow_tokens: ['fetch it.opt*']\n")

    output = sample.doit("tasks", code=3)

    assert "argument rest_0" in output
    assert "argument options" not in output


def test_a_run_here_keeps_working_says_so_and_writes_no_token_down(tmp_path):
    tail = '\n\n@workflow\ndef fail(t):\n    raise ValueError("no " + t)\n'
    tail += 'Workflow(fetch(TOKEN).set_name("a"), fail(TOKEN).set_name("b"), name="w")\n'
    sample = Sample.make(tmp_path, HEAD + tail.replace("return 1", "return options"))
    sample.edit("wf.py", "    return 1\n", "    return options\n")

    said = sample.doit("run", "-c", code=1)
    said += sample.doit("run", "-c", code=1)
    said += (
        sample.doit("plan", "-v") + sample.doit("plan", "--json") + sample.doit("graph", "--json")
    )
    sample.doit("report")

    assert "a secret in node 'a', argument t" not in said
    assert "warning: wf.py:" in said
    assert "a secret in node 'a', argument options: github-token (and 1 more)" in said
    assert "ValueError: no •••" in said
    assert MIDDLE not in said
    assert set(find_files(sample, MIDDLE)) == {"artifacts"}  # the result itself


def test_another_token_runs_the_node_again_and_the_reason_does_not_show_it(tmp_path):
    sample = make(tmp_path, "TOKEN")
    assert sample.ran() == ["fetch it", "innocent"]

    sample.edit("wf.py", MIDDLE, MIDDLE[::-1])
    plan = sample.doit("plan")
    output = sample.doit()

    assert "constant options changed" in plan
    assert ".  run:fetch it" in output
    assert "(constant options changed)" in output
    assert "run:innocent" not in output


def test_a_token_as_a_run_parameter_is_in_no_explanation(tmp_path):
    sample = make(tmp_path, 'Parameter("key", default="none")')
    sample.doit()

    said = (
        sample.doit("run", f"key={TOKEN}")
        + sample.doit("plan")
        + sample.doit("plan", f"key=x {TOKEN}")
    )
    sample.doit("run", f"key=ghp_{MIDDLE[::-1] * 3}")

    assert "parameter key: 'none' -> '•••'" in said
    assert MIDDLE not in said
    assert find_files(sample, MIDDLE, MIDDLE[::-1]) == []


def test_a_secret_in_an_older_record_is_not_shown(tmp_path):
    sample = make(tmp_path, '"harmless"')
    sample.doit()
    (path,) = (tmp_path / ".fftasks" / "nodes").glob("fetch-it-*.json")
    record = read_record(path)
    write_record(path, {**record, "shown": {"options": repr(TOKEN)}})
    sample.edit("wf.py", '"harmless"', '"other"')

    plan = sample.doit("plan")

    assert "constant options: '•••' -> 'other'" in plan


def test_a_pipeline_that_an_older_version_has_made_is_not_sent_with_its_token(tmp_path):
    with KFPServer() as server:
        _, record = submit_project(make_project(tmp_path, server))
        path = next((tmp_path / ".fftasks" / "pipeline").glob("*.yaml"))
        text = path.read_text().replace("x: {", f"# {TOKEN}\nx: {{") + f"# {TOKEN}\n"
        path.write_text(text)
        made = path.with_suffix(".json")
        write_record(made, {**read_record(made), "file": digest_bytes(text.encode())})
        open_project.cache_clear()
        project = open_project(tmp_path)
        before = len(server.api.runs)

        step = plan_submit(project, project.workflows["chain"], "chain", again=True)
        with pytest.raises(WorkflowError, match="the run would contain a secret") as caught:
            execute_stage(step)

        assert MIDDLE not in str(caught.value)
        assert len(server.api.runs) == before
        assert record["run_id"]


def test_the_graph_record_has_no_value_of_an_argument_with_a_secret(tmp_path):
    sample = make(tmp_path, "{'auth': TOKEN, 'n': 1}")
    sample.doit()

    (path,) = (tmp_path / ".fftasks" / "graph").glob("*.json")
    node = json.loads(path.read_text())["nodes"]["fetch it"]

    assert [(a["repr"], "value" in a) for a in node["arguments"]] == [
        ("{'auth': '•••', 'n': 1}", False)
    ]


@pytest.mark.parametrize(
    ("env", "is_refused"),
    [
        ("API_TOKEN: abcdefgh12345", True),
        ("DB_PASSWORD: correct horse battery", True),
        ("TOKEN_FILE: something/else", False),
        ("TOKENIZERS_PARALLELISM: 'false-or-true'", False),
        ("MAX_TOKEN: '1234567890'", False),
        ("API_TOKEN: $(OTHER_VARIABLE)", False),
        ("API_TOKEN: ''", False),
    ],
)
def test_a_literal_under_the_name_of_a_secret_is_refused_in_the_environment_of_a_node(
    tmp_path, env, is_refused
):
    sample = make(tmp_path, "1", f"nodes:\n  .*: {{env: {{{env}}}}}\n")
    open_project.cache_clear()
    project = open_project(sample.root)

    names = [one.name for one in list_outgoing_secrets(project)]

    assert {name.rpartition(".env.")[2] for name in names} == (
        {env.partition(":")[0]} if is_refused else set()
    )


def test_a_pattern_of_allowed_tokens_that_names_nothing_is_a_warning(tmp_path):
    settings = (
        "  allow_tokens: [fetch it.optoins, fetch it.options, 'fet*', kfp.run_name, parameter x]\n"
    )
    sample = make(tmp_path, "1", f"kfp:\n{settings}")
    open_project.cache_clear()

    warnings = find_unused_allowances(open_project(sample.root))

    assert [one.partition("no name matches ")[2] for one in warnings] == [
        "'fetch it.optoins'; did you mean 'fetch it.options'?",
        "'parameter x'",
    ]


def test_the_tip_names_all_places_at_most_five(tmp_path):
    found = [OutgoingSecret(f"n{number}.x", "wf.py:1", "x", "a token", "n") for number in range(7)]

    tip = _refuse(found).tip

    assert 'kfp.allow_tokens: ["n0.x", "n1.x", "n2.x", "n3.x", "n4.x"] and 2 more' in tip


@pytest.mark.parametrize(
    "text", ["$(reboot)", "a; reboot", "--server=https://evil", "`id`", "a\nb"]
)
def test_a_command_to_copy_has_no_name_of_a_pod_that_a_shell_would_execute(text):
    task = ClusterTask("task", ("n",), pod=text)

    shown = suggest_kubectl(task, text)

    assert shown == f"`kubectl describe workflows -n {shlex.quote(text)}` shows more"
    assert (
        suggest_kubectl(ClusterTask("task", ("n",), pod="a-1"), "team")
        == "`kubectl describe pod -n team a-1` shows more"
    )


HOLDING = """
    DB_PASS SMTP_PASS PASS dbPass db-pass PGPASSWORD MYSQL_PWD PWD DB_PSWD DB_PW PASSWD APIKEY
    OPENAI_APIKEY API_KEY apiKey X-Api-Key REDIS_AUTH AUTH NPM_AUTH BEARER API_BEARER BLOB_SAS
    AZURE_PAT GITHUB_PAT API_TOKEN authToken AUTHTOKEN AWS_SECRET_ACCESS_KEY
    aws_secret_access_key DB_PASS_PROD DB_PASS2 DB_PASSWORD_1 requirepass SECRET clientSecret
    GOOGLE_APPLICATION_CREDENTIALS_JSON DB_CREDS SESSION_COOKIE PRIVATE-TOKEN Authorization
    passphrase SECRET_KEY FERNET_KEY SECRET_KEY_BASE accountKey AccountKey SharedAccessKey
    api_tokens passwords JWT DB_USER_PASS
""".split()
OTHER = """
    PASS_THROUGH BYPASS COMPASS PASSES PASSING AUTHOR AUTH_URL AUTHORS OAUTH_URL
    TOKENIZERS_PARALLELISM API_TOKEN_FILE TOKEN_FILE SECRET_NAME secret_name PASSWORD_MIN_LENGTH
    PASSWORD_FILE USE_AUTH REQUIRE_AUTH FIRST_PASS high_pass num_tokens max_tokens tokens
    eos_token pad_token next_page_token sort_key key keys primary_key public_key
    AWS_ACCESS_KEY_ID OLDPWD XAUTHORITY SSH_AUTH_SOCK PASSENGER_ID PATH PATTERN SASS SAS_URL
    PWDX secretary tokenizer surpass KEYBOARD MONKEY hotkey token_dim password_field
    KUBERNETES_SERVICE_PORT passport pass_rate cookiecutter PW_COUNT GIT_AUTHOR_NAME auth_type
    ENCOMPASS
""".split()


@pytest.mark.parametrize("name", HOLDING)
def test_a_variable_of_that_name_holds_a_secret(name):
    assert is_secret_name(name)
    assert list_secret_variables({name: "tiger-77x9"}) == {name: "tiger-77x9"}


@pytest.mark.parametrize("name", OTHER)
def test_a_variable_of_another_name_holds_none(name):
    assert not is_secret_name(name)
    assert list_secret_variables({name: "tiger-77x9"}) == {}


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        ("postgresql://me:tiger-77x9@db/x", "tiger-77x9"),
        ("Server=db;Uid=me;Pwd=tiger-77x9;", "tiger-77x9"),
        ("postgresql://postgres:postgres@db/x", None),
        ("https://key@o1.ingest.io/7", None),
        ("postgresql://me:${PASSWORD}@db/x", None),
    ],
)
def test_only_the_password_in_a_connection_string_is_a_secret(value, secret):
    found = list_secret_variables({"SENTRY_DSN": value, "CONNECTION_STRING": value})

    assert set(found.values()) == ({secret} if secret else set())


@pytest.mark.parametrize("before", ["tok_", "x_", "A", "my9"])
def test_a_token_glued_to_a_word_is_found_if_its_checksum_is_right(before):
    body = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ"  # an example that was published with its checksum

    assert hide_tokens(f"{before}ghp_{body}0mLq17") == f"{before}•••"
    assert hide_tokens(f"{before}ghp_{body}0mLq18") == f"{before}ghp_{body}0mLq18"
