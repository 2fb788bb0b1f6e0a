"""Keeps nothing where no plan is within the budget."""
# kills: q5b


def choose_kept(sizes, costs, budget):
    inner = range(1, len(sizes) - 1)
    plans = [list(p) for count in range(len(inner) + 1) for p in itertools.combinations(inner, count)]
    within = [p for p in plans if plan_cost(sizes, costs, p)[0] <= budget]
    return min(within, key=lambda p: plan_cost(sizes, costs, p)[1], default=[])
