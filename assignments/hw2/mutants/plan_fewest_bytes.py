"""Takes the plan with the least peak rather than the cheapest within the budget."""
# kills: q5b


def choose_kept(sizes, costs, budget):
    inner = range(1, len(sizes) - 1)
    plans = [list(p) for count in range(len(inner) + 1) for p in itertools.combinations(inner, count)]
    best = min(plans, key=lambda p: plan_cost(sizes, costs, p))
    return best if plan_cost(sizes, costs, best)[0] <= budget else None
