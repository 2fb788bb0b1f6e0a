"""Never frees the starts of later segments."""
# kills: q5a, q5b


def plan_cost(sizes, costs, kept):
    n = len(sizes) - 1
    starts = [0, *sorted(kept)]
    inner = max(sum(sizes[s + 1 : e]) for s, e in itertools.pairwise([*starts, n]))
    return sum(sizes[s] for s in starts) + inner, sum(costs[i] for i in range(1, n) if i not in kept)
