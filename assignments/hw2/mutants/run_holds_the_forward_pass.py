"""Keeps every value of the forward pass, though it uses only those of the plan."""
# kills: q5c


def checkpointed(forward, backward, seed, x, n, kept):
    held, value, everything = {0: x}, x, []
    for i in range(1, n + 1):
        value = forward(i, value)
        everything.append(value)
        if i in kept:
            held[i] = value
    g = seed(value)
    for start, end in reversed(list(itertools.pairwise([*held, n]))):
        inside = [held.pop(start)]
        for i in range(start + 1, end):
            inside.append(forward(i, inside[-1]))
        for i in range(end, start, -1):
            g = backward(i, inside.pop(), g)
    return value, g
