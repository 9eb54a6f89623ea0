"""What component files and pipelines say about nodes and workflows."""

from fftasks.pipeline.components import describe_component, describe_workflow
from fftasks.project import open_project
from tests.sample import Sample

TOKEN = "ghp_" + "aB3" * 12  # what a token of GitHub looks like
TEXT = f'''"""Flow with {TOKEN} in it."""
from fftasks import Workflow, workflow


@workflow
def load():
    """Load with {TOKEN}."""


@workflow
class Box:
    """Boxes."""

    def put(self):
        """Put."""


Workflow(load().set_name("load"), Box().put().set_name("put"), min_node := workflow(min)(1, 2), name="w")
'''


def test_docstrings_are_descriptions_without_tokens(tmp_path):
    sample = Sample.make(tmp_path, TEXT)
    open_project.cache_clear()
    project = open_project(sample.root)
    graph = project.workflows["w"]

    said = {
        name: describe_component(project, node, "w").splitlines()[0]
        for name, node in graph["nodes"].items()
    }

    assert describe_workflow(project, graph) == "Flow with ••• in it."
    assert said == {
        "load": "Load with •••.",
        "Box_0000": "Boxes.",
        "put": "Put.",
        "min_0000": "node 'min_0000' of workflow 'w': min in builtins",
    }
