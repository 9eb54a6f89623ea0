"""A project whose run has all that a page shows: failures, pictures, metrics, logs and hostile texts."""

from tests.sample import Sample

HOSTILE = "<script>alert('x')</script>"
TEXT = """
import base64

from fftasks import Markdown, Metrics, Workflow, workflow

PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


@workflow
def load(n, key="x"):
    print("loading with", "hunter2" + "secret", "and", "ghp_" + "a1B2c3D4e5F6" * 3)
    return list(range(n))


@workflow
def pick(values, at):
    return values[at]


@workflow
def divide(x):
    print("<b>about to divide</b>", "y" * 1_000_000, "the last words")
    raise ValueError("<img src=x onerror=alert(1)> & co")


@workflow
def score(x):
    return Metrics({"mean": x / 4, "max": x + 0.5})


@workflow
def plot(x):
    return base64.b64decode(PNG)


@workflow
def tell(x):
    return Markdown("# <i>A text</i>")


@workflow
def after(x):
    return x


values = load(9).set_name("values HOSTILE")
picked = [pick(values, at=i).set_name(f"pick {i}") for i in range(4)]
scored = score(picked[2]).set_name("scored")
bad = divide(picked[3]).set_name('"quotes" & <b>')
told, plotted = tell(scored).set_name("told"), plot(picked[1]).set_name("plot")
Workflow(scored, told, plotted, after(bad).set_name("after"), name="demo")
"""


def make_sample(root):
    sample = Sample.make(root, TEXT.replace("HOSTILE", HOSTILE.replace('"', "'")))
    settings = "workflows: [wf.py]\nregistry:\n  password: hunter2secret\n"
    sample.write("config/default.yaml", settings)
    return sample
