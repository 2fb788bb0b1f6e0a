"""Segments of the root of n, whatever the sizes."""
# kills: q5b


def choose_kept(sizes, costs, budget):
    n = len(sizes) - 1
    length = max(1, round(math.sqrt(n)))
    kept = list(range(length, n, length))
    return kept if plan_cost(sizes, costs, kept)[0] <= budget else None
