"""Keeps the start of each segment after its turn."""
# kills: q5c


def checkpointed(forward, backward, seed, x, n, kept):
    held, value = {0: x}, x
    for i in range(1, n + 1):
        value = forward(i, value)
        if i in kept:
            held[i] = value
    g = seed(value)
    for start, end in reversed(list(itertools.pairwise([*held, n]))):
        inside = [held[start]]
        for i in range(start + 1, end):
            inside.append(forward(i, inside[-1]))
        for i in range(end, start, -1):
            g = backward(i, inside.pop(), g)
    return value, g
