"""What results show, as files of the state folder."""

from fftasks.cache.store import remove_unused
from tests.sample import Sample

WORKFLOW = """
from fftasks import HTML, Markdown, Parameter, Workflow, workflow

@workflow
def show(text):
    return {"text": Markdown(text), "page": [HTML(f"<b>{text}</b>")]}

Workflow(show(Parameter("text", "one")).set_name("page"), name="w")
"""


def test_files_belong_to_the_result_that_is_there(tmp_path):
    sample = Sample.make(tmp_path, WORKFLOW)
    first = sample.doit("run")
    second = sample.doit("run", "text=two")
    again = sample.doit("run")

    assert first.count("shown in .fftasks/shown/page/") == 2
    assert "shown in" in second
    assert [line for line in again.splitlines() if "shown in" in line] == [
        line for line in first.splitlines() if "shown in" in line
    ]
    (line,) = (line for line in again.splitlines() if line.endswith("page.html"))
    path = line.split()[-1]
    assert "<b>one</b>" in (tmp_path / path).read_text()
    assert f"shown in {path}" in sample.doit("result", "page")

    remove_unused(tmp_path / ".fftasks", 0)

    assert len(list((tmp_path / ".fftasks" / "shown" / "page").iterdir())) == 1
    assert (tmp_path / path).exists()


def test_a_node_that_fails_leaves_nothing_to_be_shown(tmp_path):
    text = WORKFLOW.replace('"page": [', '"bad": (i for i in []), "page": [')
    sample = Sample.make(tmp_path, text)

    sample.doit("run", code=1)

    assert not list((tmp_path / ".fftasks").glob("shown/*/*"))
