from fftasks import Workflow, workflow


def scale(x):
    return 10 * x


@workflow
def load(n):
    print("loading", n)
    return list(range(n))


@workflow
def total(values, factor):
    return sum(values) * factor


@workflow
def report(value):
    return {"value": value, "scaled": scale(value)}


values = load(4).set_name("values")
sum_of_values = total(values, factor=2).set_name("total")
length = total([values[0], values[-1]], factor=1).set_name("ends")
Workflow(report(sum_of_values).set_name("report")["scaled"], length, name="chain")
