"""Both gradients in the wider of the two precisions."""
# kills: q1c


def matmul_vjp(g, a, b):
    for_a, for_b = g @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ g
    return unbroadcast(for_a, a.shape), unbroadcast(for_b, b.shape)
