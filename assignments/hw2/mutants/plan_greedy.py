"""Keeps one more value at a time, the dearest first, while the budget lasts."""
# kills: q5b


def choose_kept(sizes, costs, budget):
    kept = []
    for i in sorted(range(1, len(sizes) - 1), key=lambda i: -costs[i]):
        if plan_cost(sizes, costs, [*kept, i])[0] <= budget:
            kept.append(i)
    return sorted(kept) if plan_cost(sizes, costs, kept)[0] <= budget else None
