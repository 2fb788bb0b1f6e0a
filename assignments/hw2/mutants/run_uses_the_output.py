"""Gives backward the value after the step rather than the one before."""
# kills: q5c


def checkpointed(forward, backward, seed, x, n, kept):
    held, value = {0: x}, x
    for i in range(1, n + 1):
        value = forward(i, value)
        if i in kept or i == n:
            held[i] = value
    g = seed(value)
    starts = sorted({*held} - {n})
    for start, end in reversed(list(itertools.pairwise([*starts, n]))):
        inside = [held[start]]
        for i in range(start + 1, end):
            inside.append(forward(i, inside[-1]))
        inside.append(held[end])
        for i in range(end, start, -1):
            g = backward(i, inside[i - start], g)
    return value, g
