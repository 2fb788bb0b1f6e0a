"""Computes from the last kept value anew for each step."""
# kills: q5c


def checkpointed(forward, backward, seed, x, n, kept):
    held, value = {0: x}, x
    for i in range(1, n + 1):
        value = forward(i, value)
        if i in kept:
            held[i] = value
    g = seed(value)
    for i in range(n, 0, -1):
        start = max(s for s in held if s < i)
        before = held[start]
        for j in range(start + 1, i):
            before = forward(j, before)
        g = backward(i, before, g)
    return value, g
