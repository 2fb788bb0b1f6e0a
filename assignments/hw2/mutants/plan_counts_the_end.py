"""Counts the value at a segment's end too."""
# kills: q5a, q5b


def plan_cost(sizes, costs, kept):
    n, held, peak = len(sizes) - 1, 0, 0
    for start, end in itertools.pairwise([0, *sorted(kept), n]):
        held += sizes[start]
        peak = max(peak, held + sum(sizes[start + 1 : end + 1]))
    return peak, sum(costs[i] for i in range(1, n) if i not in kept)
