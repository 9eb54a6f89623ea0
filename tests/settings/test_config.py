"""config/ and the environment: what is read, and what is said about what is wrong in them."""

import traceback

import pytest
import yaml

from fftasks.errors import SettingsError
from fftasks.settings import Settings, load

FIRST = "workflows: [wf.py]\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "wf.py").touch()
    write(tmp_path, FIRST)
    return tmp_path


@pytest.fixture(params=["C", "Python"])
def _loader(request, monkeypatch):
    if request.param == "Python":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("this PyYAML has no C loader")


def write(folder, text, profile="default"):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config" / f"{profile}.yaml").write_bytes(data)


def refuse(folder, profile=None, environ=None):
    with pytest.raises(SettingsError) as caught:
        load(folder, profile, environ or {})
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("${A}", "a"),
        ("x${A}y${B}", "xay"),
        ("${N}", "12"),
        ("$${A}", "${A}"),
        ("$A $ {A} $$", "$A $ {A} $$"),
        ("${OTHER}", "${A}"),
        ("'a: #b'", "a: #b"),
        ("", "http://localhost:8080"),
        ("''", ""),
        ("|-\n    long\n    text", "long\ntext"),
    ],
)
def test_a_text_in_a_file(folder, text, value):
    write(folder, f"{FIRST}kfp:\n  host: {text}\n")

    settings = load(folder, environ={"A": "a", "B": "", "N": "12", "OTHER": "${A}"})

    assert settings.kfp.host == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30.0), ("1.5", 1.5), ("1e3", 1000.0), ("1_000", 1000.0), ("${N}", 12.0), ("", 30.0)],
)
def test_a_number_in_a_file(folder, text, value):
    write(folder, f"{FIRST}kfp:\n  timeout_s: {text}\n")

    assert load(folder, environ={"N": "12"}).kfp.timeout_s == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("No", False), ("off", False), ("${YES}", True), ("'${YES}'", True)],
)
def test_a_switch_in_a_file(folder, text, value):
    write(folder, f"{FIRST}kfp:\n  verify_ssl: {text}\n")

    assert load(folder, environ={"YES": "yes"}).kfp.verify_ssl is value


def test_texts_in_lists_and_mappings_take_variables(folder):
    write(folder, "workflows: ['${W}.py']\nimage:\n  build_env: {A: 'x${W}', B: '$${W}'}\n")

    settings = load(folder, environ={"W": "wf"})

    assert settings.workflows == ("wf.py",)
    assert settings.image.build_env == {"A": "xwf", "B": "${W}"}


def test_anchors_work(folder):
    write(folder, f"{FIRST}registry:\n  server: &host a.example\nkfp:\n  namespace: *host\n")

    settings = load(folder, environ={})

    assert settings.kfp.namespace == "a.example"
    assert settings.origin("kfp.namespace") == "config/default.yaml:5"


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"---\n", b"# caf\xc3\xa9\n"])
def test_a_file_may_begin_with(folder, start):
    write(folder, start + FIRST.encode())

    assert load(folder, environ={}).workflows == ("wf.py",)


def test_an_empty_section_has_its_defaults(folder):
    write(folder, f"{FIRST}kfp:\nimage:\n  base:\n  build_env:\n")

    first, second = load(folder, environ={}), load(folder, environ={})

    assert first.image == Settings().image
    assert first.image.build_env is not second.image.build_env


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["default.yaml is empty", "write `workflows: [my_workflow.py]`"]),
        ("# only a comment\n", ["default.yaml is empty"]),
        ("workflow: [wf.py]\n", ["default.yaml:1: there is no setting workflow", "workflows?"]),
        (f"{FIRST}kpf: {{}}\n", ["default.yaml:2: there is no setting kpf", "did you mean kfp?"]),
        (f"{FIRST}host: x\n", ["there is no setting host", "did you mean kfp.host?"]),
        (f"{FIRST}kfp.host: x\n", ["there is no setting kfp.host", "write `host:` below `kfp:`"]),
        (f"{FIRST}<<: {{}}\n", ["there is no setting <<", "shows them all"]),
        (
            f"{FIRST}kfp:\n  hots: x\n",
            ["default.yaml:3: there is no setting kfp.hots", "kfp.ca_cert", "you mean kfp.host?"],
        ),
        (f"{FIRST}registry:\n  host: x\n", ["there are: registry.server, registry.repository"]),
        (f"{FIRST}kfp: 3\n", ["default.yaml:2: kfp must hold `key: value` lines"]),
        ("- x\n", ["default.yaml:1: the file must hold `key: value` lines"]),
        ("wf.py\n", ["default.yaml:1: the file must hold"]),
        (f"{FIRST}? [a]\n: b\n", ["default.yaml:2: a key in the file must be a text"]),
        (f"{FIRST}{FIRST}", ["default.yaml:2: workflows is set twice", "before: config/default"]),
        (f"{FIRST}kfp: {{host: a,\n host: b}}\n", ["default.yaml:3: kfp.host is set twice"]),
        (f"{FIRST}kfp:\n  host: a\nkfp:\n", ["default.yaml:4: kfp is set twice"]),
        (
            f"{FIRST}image:\n  build_env:\n    A: x\n    A: x\n",
            ["default.yaml:5: image.build_env.A is set twice"],
        ),
        ("workflows: wf.py\n", ["workflows must be a list of texts, not 'wf.py'", "[wf.py]"]),
        ("workflows: {a: b}\n", ["default.yaml:1: workflows must be a list of texts, not a map"]),
        ("workflows:\n  - wf.py\n  - 1\n", ["default.yaml:3: workflows[1] must be a text, not 1"]),
        ("workflows:\n  -\n", ["default.yaml:2: workflows[0] must be a text, not nothing"]),
        ("workflows: &a [*a]\n", ["workflows[0] must be a text, not a list"]),
        (f"{FIRST}image:\n  build_env: [a]\n", ["image.build_env must be a mapping of texts to"]),
        (
            f"{FIRST}image:\n  build_env:\n    A: 60\n",
            ["default.yaml:4: image.build_env.A must be a text", "write it in quotes"],
        ),
        (f"{FIRST}image:\n  tag: 1.10\n", ["image.tag must be a text, not 1.10", "in quotes"]),
        (f"{FIRST}image:\n  tag: 2024-02-30\n", ["image.tag must be a text, not 2024-02-30"]),
        (f"{FIRST}image:\n  tag: !!int x\n", ["image.tag must be a text, not x"]),
        (f"{FIRST}image:\n  tag: [a]\n", ["image.tag must be a text, not a list"]),
        (f"{FIRST}kfp:\n  host: !!python/name:os.system x\n", ["kfp.host must be a text, not x"]),
        (f"{FIRST}kfp:\n  caching: 1\n", ["kfp.caching must be true or false, not '1'"]),
        (f"{FIRST}kfp:\n  caching: 'true'\n", ["kfp.caching must be true or false, not 'true'"]),
        (f"{FIRST}kfp:\n  caching: {{}}\n", ["kfp.caching must be true or false, not a mapping"]),
        (f"{FIRST}kfp:\n  timeout_s: x\n", ["kfp.timeout_s must be a number, at least 0.1, not"]),
        (f"{FIRST}kfp:\n  timeout_s: true\n", ["kfp.timeout_s must be a number"]),
        (f"{FIRST}kfp:\n  timeout_s: 0\n", ["at least 0.1, not 0.0"]),
        (f"{FIRST}kfp:\n  timeout_s: .nan\n", ["kfp.timeout_s must be a number"]),
        (f"{FIRST}kfp:\n  timeout_s: {'9' * 400}\n", ["kfp.timeout_s must be a number"]),
        (f"{FIRST}local:\n  isolation: no\n", ["must be one of fork, fresh, not no"]),
        (f"{FIRST}local:\n  isolation: frok\n", ["one of fork, fresh, not 'frok'", "mean fork?"]),
        (f"{FIRST}kfp:\n  host: ${{NOPE}}\n", ["default.yaml:3: kfp.host needs", "NOPE"]),
        ("workflows:\n  - ${NOPE}\n", ["default.yaml:2: workflows[0] needs", "export NOPE="]),
        (f"{FIRST}kfp:\n  host: ${{A:-b}}\n", ["default.yaml:3: kfp.host has a `${`", "$${"]),
        ("a: [\n", ["this is no YAML"]),
        ("a: [b c: d\n", ["this is no YAML", "','"]),
        (f"{FIRST}kfp:\n\thost: x\n", ["default.yaml:3: this is no YAML", "indent with spaces"]),
        (f"{FIRST}kfp:\n  host: @x\n", ["default.yaml:3: this is no YAML", "into quotes"]),
        (f"{FIRST}---\n{FIRST}", ["default.yaml:2: this is no YAML"]),
        (f"{FIRST}kfp:\n  host: \a\n", ["default.yaml:3: this is no YAML", "not allowed"]),
        (f"{FIRST}{'[' * 5000}", ["this is no YAML"]),
        (FIRST.encode() + b"kfp:\n  host: \xff\n", ["default.yaml:3: this is no text in UTF-8"]),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(folder, text, said):
    write(folder, text)

    error = refuse(folder)

    for words in said:
        assert words in str(error)


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize(
    "text",
    [
        "registry:\n  password: *hunter2\n",
        "registry:\n  password: !hunter2\n",
        "registry:\n  password: !hunter2 x\n",
        "registry:\n  password: !hunter2!x y\n",
        "registry:\n  password: !!bool hunter2\n",
        "registry:\n  password: @hunter2\n",
        "registry:\n  password: %hunter2\n",
        "registry:\n  password: |hunter2\n",
        "registry:\n  password: 'hunter2\n",
        "registry:\n  password: hunter2: x\n",
        "registry:\n  password: [hunter2]\n",
        "registry:\n  password: {hunter2}\n",
        "registry:\n  password: hunter2${\n",
        "registry: hunter2\n",
        "kfp:\n  token: [hunter2\n",
        "kfp:\n  cookies: &hunter2 [a]\n",
        "image:\n  build_env: hunter2\n",
        "image:\n  build_env: [hunter2]\n",
        "image:\n  build_env: {A: [hunter2]}\n",
        "image:\n  build_env: {A: !hunter2 x}\n",
        "image:\n  build_env: {A: *hunter2}\n",
    ],
)
def test_no_error_shows_a_secret_not_even_as_its_cause(folder, text):
    write(folder, FIRST + text)

    error = refuse(folder, environ={"PW": "hunter2"})

    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("registry:\n  password: hunter2${NOPE}\n", "registry.password"),
        ("registry:\n  password: ${PW}${NOPE}\n", "registry.password"),
        ("kfp:\n  token: ${NOPE}\n", "kfp.token"),
        ("image:\n  build_env: {A: 'hunter2${NOPE}'}\n", "image.build_env"),
        ("object_store:\n  secret_key: ${NOPE}\n", "object_store.secret_key"),
    ],
)
def test_a_secret_that_is_not_there_is_missed_where_it_is_used(folder, text, key):
    write(folder, FIRST + text)
    section, _, name = key.partition(".")

    settings = load(folder, environ={"PW": "hunter2"})

    assert settings.registry.server == ""
    for _ in range(2):
        with pytest.raises(SettingsError, match="export NOPE=") as caught:
            getattr(getattr(settings, section), name)
    assert f"default.yaml:3: {key}" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_that_is_not_there_may_be_set_elsewhere(folder):
    write(folder, f"{FIRST}registry:\n  password: ${{NOPE}}\n")

    settings = load(folder, environ={"FFTASKS_REGISTRY__PASSWORD": "x"})

    assert settings.registry.password == "x"


def test_a_secret_number_is_asked_for_in_quotes_and_not_shown(folder):
    write(folder, f"{FIRST}registry:\n  password: 123456\n")

    error = refuse(folder)

    assert "default.yaml:3: registry.password must be a text\n" in str(error)
    assert "write it in quotes" in str(error)
    assert "123456" not in str(error)


@pytest.mark.parametrize(
    ("name", "text", "section", "value"),
    [
        ("KFP__HOST", "http://h:1", "kfp.host", "http://h:1"),
        ("KFP__TIMEOUT_S", " 5 ", "kfp.timeout_s", 5.0),
        ("KFP__CACHING", "FALSE", "kfp.caching", False),
        ("CONTEXT__IGNORE", "[a, b]", "context.ignore", ("a", "b")),
        ("CONTEXT__IGNORE", "- a\n- ${b}", "context.ignore", ("a", "${b}")),
        ("IMAGE__BUILD_ENV", "{PIP_INDEX_URL: x}", "image.build_env", {"PIP_INDEX_URL": "x"}),
        ("LOCAL__ISOLATION", "fresh", "local.isolation", "fresh"),
        ("WORKFLOWS", '["wf.py"]', "workflows", ("wf.py",)),
        # a text is taken as it is
        ("KFP__NAMESPACE", "", "kfp.namespace", ""),
        ("IMAGE__TAG", "1.10", "image.tag", "1.10"),
        ("REGISTRY__PASSWORD", "123", "registry.password", "123"),
        ("REGISTRY__PASSWORD", "*a: #${HOME}$${'", "registry.password", "*a: #${HOME}$${'"),
    ],
)
def test_the_environment_is_read_by_the_settings_type(folder, name, text, section, value):
    settings = load(folder, environ={f"FFTASKS_{name}": text})

    for part in section.split("."):
        settings = getattr(settings, part)
    assert settings == value


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("KFP__HOTS", "x", ["there is no setting of this name", "did you mean FFTASKS_KFP__HOST?"]),
        ("KFP_HOST", "x", ["there is no setting of this name", "did you mean FFTASKS_KFP__HOST?"]),
        ("kfp__host", "x", ["there is no setting of this name", "did you mean FFTASKS_KFP__HOST?"]),
        ("WORKFLOW", "x", ["did you mean FFTASKS_WORKFLOWS?"]),
        ("X__Y", "x", ["there is no setting of this name", "there are: FFTASKS_WORKFLOWS"]),
        ("WORKFLOWS", "wf.py", ["workflows must be a list of texts, not 'wf.py'", "[wf.py]"]),
        ("CONTEXT__IGNORE", "", ["context.ignore must be a list of texts, not nothing"]),
        ("IMAGE__BUILD_ENV", "", ["image.build_env must be a mapping", "write {}"]),
        ("IMAGE__BUILD_ENV", "{A: 1}", ["image.build_env.A must be a text"]),
        ("IMAGE__BUILD_ENV", "{A: x, A: y}", ["image.build_env.A is set twice"]),
        ("CONTEXT__IGNORE", "[", ["this is no YAML"]),
        ("KFP__CACHING", "", ["kfp.caching must be true or false, not ''"]),
        ("KFP__TIMEOUT_S", "soon", ["kfp.timeout_s must be a number, at least 0.1, not 'soon'"]),
        ("LOCAL__ISOLATION", "frsh", ["must be one of fork, fresh", "did you mean fresh?"]),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_with_its_name(folder, name, text, said):
    error = refuse(folder, environ={f"FFTASKS_{name}": text})

    assert str(error).startswith(f"environment FFTASKS_{name}: ")
    for words in said:
        assert words in str(error)


@pytest.mark.parametrize("text", ["hunter2", "{A: *hunter2}", "[hunter2", "{A: {hunter2}}"])
def test_no_error_shows_a_secret_of_the_environment(folder, text):
    error = refuse(folder, environ={"FFTASKS_IMAGE__BUILD_ENV": text})

    assert "hunter2" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "name", ["PROFILE", "REQUIRE_SERVICES", "TEST_CACHE", "FOLDER", "OF_SOMEBODY_ELSE"]
)
def test_variables_that_are_no_settings_are_left_alone(folder, name):
    assert load(folder, environ={f"FFTASKS_{name}": "", "FFFUNCTION": "x"}) == load(
        folder, environ={}
    )


@pytest.mark.parametrize("profile", [None, "prod"])
def test_a_missing_file_says_what_to_do(tmp_path, profile):
    (tmp_path / "config").mkdir()
    write(tmp_path, FIRST, "prod")

    error = refuse(tmp_path, profile)

    assert f"there is no config/default.yaml in {tmp_path}" in str(error)
    assert "fftasks init" in str(error)


def test_a_file_with_another_ending_is_pointed_at(folder):
    (folder / "config" / "default.yaml").rename(folder / "config" / "default.yml")

    assert "config/default.yml is not read: it must end in .yaml" in str(refuse(folder))


@pytest.mark.parametrize(
    ("profile", "variables", "said"),
    [
        ("prdo", {}, ["no profile 'prdo':", "profiles: dev, prod", "did you mean prod?"]),
        ("x", {}, ["no profile 'x': config/x.yaml does not exist", "profiles: dev, prod"]),
        (None, {"FFTASKS_PROFILE": "x"}, ["no profile 'x' of FFTASKS_PROFILE:"]),
        ("../config/prod", {}, ["no profile '../config/prod'"]),
        ("test", {}, ["config/test.yml is not read"]),
    ],
)
def test_a_missing_profile_lists_those_there_are(folder, profile, variables, said):
    write(folder, "kfp: {host: x}", "prod")
    write(folder, "kfp: {host: x}", "dev")
    (folder / "config" / "test.yml").touch()

    error = refuse(folder, profile, variables)

    for words in said:
        assert words in str(error)


def test_an_empty_profile_is_refused(folder):
    write(folder, "# kfp:\n", "prod")

    assert "config/prod.yaml is empty" in str(refuse(folder, "prod"))


def test_a_file_that_cannot_be_read_is_no_traceback(folder):
    (folder / "config" / "prod.yaml").mkdir()

    assert "config/prod.yaml cannot be read" in str(refuse(folder, "prod"))
