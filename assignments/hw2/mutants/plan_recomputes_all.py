"""Counts every step as computed again."""
# kills: q5a, q5b


def plan_cost(sizes, costs, kept):
    n, held, peak = len(sizes) - 1, 0, 0
    for start, end in itertools.pairwise([0, *sorted(kept), n]):
        held += sizes[start]
        peak = max(peak, held + sum(sizes[start + 1 : end]))
    return peak, sum(costs[1:])
