"""What `doit submit` is measured against: a script that builds, pushes, compiles and submits each time.

python submit_by_hand.py REPOSITORY HOST, in the folder of digits.py and a Dockerfile. It is written as people
write it: the engine's command line, container components and the compiler of kfp's SDK, and its client.
"""

import subprocess
import sys
import warnings

REPOSITORY, HOST = sys.argv[1:3]


def docker(*arguments: str) -> str:
    """Run docker, and return what it printed."""
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


docker("build", "-q", "-t", REPOSITORY, ".")
docker("push", "-q", REPOSITORY)
IMAGE = docker("inspect", "--format", "{{index .RepoDigests 0}}", REPOSITORY)

from kfp import Client, compiler, dsl  # noqa: E402 - after the push, as in the order of the work

Artifact, Input, Output = dsl.Artifact, dsl.Input, dsl.Output  # kfp reads no quoted annotations


def _start(node: str, *paths: str) -> dsl.ContainerSpec:
    return dsl.ContainerSpec(image=IMAGE, command=["python3", "digits.py"], args=[node, *paths])


@dsl.container_component
def load(result: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Run node digits."""
    return _start("digits", result.path)


@dsl.container_component
def split(digits: Input[Artifact], test_size: float, result: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Run node parts."""
    return _start("parts", digits.path, test_size, result.path)  # type: ignore[arg-type]


@dsl.container_component
def train(name: str, parts: Input[Artifact], result: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Train a classifier."""
    return _start(name, parts.path, result.path)


@dsl.container_component
def evaluate(model: Input[Artifact], parts: Input[Artifact], result: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Say how good a model is."""
    return _start("score", model.path, parts.path, result.path)


@dsl.container_component
def choose(  # type: ignore[no-untyped-def]
    a: Input[Artifact],
    b: Input[Artifact],
    c: Input[Artifact],
    d: Input[Artifact],
    result: Output[Artifact],
):
    """Name the best model."""
    return _start("best", a.path, b.path, c.path, d.path, result.path)


@dsl.container_component
def confuse(  # type: ignore[no-untyped-def]
    a: Input[Artifact],
    b: Input[Artifact],
    c: Input[Artifact],
    d: Input[Artifact],
    best: Input[Artifact],
    result: Output[Artifact],
):
    """Count which digit was taken for which."""
    return _start("confusion", a.path, b.path, c.path, d.path, best.path, result.path)


@dsl.container_component
def draw(matrix: Input[Artifact], best: Input[Artifact], result: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Draw a matrix."""
    return _start("picture", matrix.path, best.path, result.path)


@dsl.pipeline(name="digits-by-hand")
def digits() -> None:
    """Wire the nodes as digits.py does."""
    parts = split(digits=load().outputs["result"], test_size=0.5).outputs["result"]
    names = ("logistic regression", "nearest neighbours", "support vectors", "random forest")
    models = [train(name=name, parts=parts).outputs["result"] for name in names]
    scores = [evaluate(model=model, parts=parts).outputs["result"] for model in models]
    best = choose(**dict(zip("abcd", scores, strict=True))).outputs["result"]
    matrix = confuse(**dict(zip("abcd", models, strict=True)), best=best).outputs["result"]
    draw(matrix=matrix, best=best)


compiler.Compiler().compile(digits, "digits.yaml")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    run = Client(host=HOST).create_run_from_pipeline_package("digits.yaml", run_name="by hand")
print(run.run_id)
