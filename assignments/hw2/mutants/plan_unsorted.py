"""Takes kept values in the order given."""
# kills: q5a


def plan_cost(sizes, costs, kept):
    n, held, peak = len(sizes) - 1, 0, 0
    for start, end in itertools.pairwise([0, *kept, n]):
        held += sizes[start]
        peak = max(peak, held + sum(sizes[start + 1 : end]))
    return peak, sum(costs[i] for i in range(1, n) if i not in kept)
