"""Compare four classifiers on scikit-learn's 1797 images of handwritten digits.

`doit run` trains the models in parallel. The node "picture" draws the confusion matrix of the best one.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from fftasks import ConfusionMatrix, Metrics, Workflow, workflow


@workflow
def load():
    """Return the images, each as 64 grey values, and the digit that each one shows."""
    digits = load_digits()
    return digits.data, digits.target


@workflow
def split(images, labels, test_size):
    """Split the images into a training set and a test set."""
    names = ("train_images", "test_images", "train_labels", "test_labels")
    parts = train_test_split(images, labels, test_size=test_size, random_state=0, stratify=labels)
    return dict(zip(names, parts, strict=True))


@workflow
def train(classifier, options, images, labels):
    """Create a classifier of the given class and train it."""
    return classifier(**options).fit(images, labels)


@workflow
def evaluate(model, images, labels):
    """Return the fraction of the images that a model classifies correctly."""
    return Metrics(accuracy=float(np.mean(model.predict(images) == labels)))


@workflow
def choose(scores):
    """Return the name of the model with the best score."""
    return max(scores, key=lambda name: scores[name]["accuracy"])


@workflow
def confuse(models, name, images, labels):
    """Return the confusion matrix of a model."""
    return ConfusionMatrix(range(10), confusion_matrix(labels, models[name].predict(images)))


@workflow
def draw(matrix, name):
    """Draw a confusion matrix; figures are displayed in the web UI and written to a file."""
    # imported here because matplotlib searches all fonts in a new container
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5))
    axes = figure.subplots()
    axes.imshow(np.log1p(matrix.rows), cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix.rows):
        axes.text(column, row, count, ha="center", va="center", fontsize=8)
    axes.set(
        xlabel="predicted digit",
        ylabel="actual digit",
        title=name,
        xticks=range(10),
        yticks=range(10),
    )
    return figure


CLASSIFIERS = {
    "logistic regression": (LogisticRegression, {"max_iter": 5000}),
    "nearest neighbours": (KNeighborsClassifier, {"n_neighbors": 3}),
    "support vectors": (SVC, {"gamma": 0.001}),
    "random forest": (RandomForestClassifier, {"n_estimators": 200, "random_state": 0}),
}

digits = load().set_name("digits")
parts = split(digits[0], digits[1], test_size=0.5).set_name("parts")
models = {
    name: train(classifier, options, parts["train_images"], parts["train_labels"]).set_name(
        f"train {name}"
    )
    for name, (classifier, options) in CLASSIFIERS.items()
}
scores = {
    name: evaluate(model, parts["test_images"], parts["test_labels"]).set_name(f"score of {name}")
    for name, model in models.items()
}
best = choose(scores).set_name("best")
matrix = confuse(models, best, parts["test_images"], parts["test_labels"]).set_name("confusion")
picture = draw(matrix, best).set_name("picture")

workflow_object = Workflow(best, matrix, picture, *scores.values(), name="digits")
