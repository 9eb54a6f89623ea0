"""Sums of expenses: how much did food cost, and which categories exceeded the budget?

`doit run` uses the default budget. `doit run budget=200` uses another one, and runs only the node that
depends on it.
"""

from fftasks import Parameter, Workflow, workflow

EXPENSES = {
    "January": [("food", 210), ("travel", 80), ("food", 95)],
    "February": [("food", 250), ("travel", 340)],
}


@workflow
def sum_categories(expenses):
    """Return the sum of each category as a dictionary."""
    sums = {}
    for category, amount in expenses:
        sums[category] = sums.get(category, 0) + amount
    return sums


@workflow
def add(amounts):
    """Return the sum of a list of amounts."""
    return sum(amounts)


@workflow
def find_excess(months, budget):
    """Return the months and categories with a sum above the budget as a list."""
    return [
        f"{category} in {month}"
        for month, sums in months.items()
        for category, amount in sums.items()
        if amount > budget
    ]


# one node for each month; nothing runs yet
months = {
    month: sum_categories(expenses).set_name(f"sums of {month}")
    for month, expenses in EXPENSES.items()
}
# sums["food"] is an item of a result that does not exist yet
food = add([sums["food"] for sums in months.values()]).set_name("food")
budget = Parameter("budget", default=300, help="highest sum that a category may have in a month")
over_budget = find_excess(months, budget).set_name("over_budget")

Workflow(food, over_budget, name="sums")
