"""Computes all segments again before it goes back."""
# kills: q5c


def checkpointed(forward, backward, seed, x, n, kept):
    held, value = {0: x}, x
    for i in range(1, n + 1):
        value = forward(i, value)
        if i in kept:
            held[i] = value
    g = seed(value)
    for i in range(1, n):
        if i not in held:
            held[i] = forward(i, held[i - 1])
    for i in range(n, 0, -1):
        g = backward(i, held[i - 1], g)
    return value, g
