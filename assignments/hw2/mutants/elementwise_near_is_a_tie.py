"""maximum: numbers that are nearly equal share."""
# kills: q1b


def elementwise_vjp(operation, g, a, b):
    if operation == "add":
        for_a, for_b = g, g
    elif operation == "sub":
        for_a, for_b = g, -g
    elif operation == "mul":
        for_a, for_b = g * b, g * a
    elif operation == "div":
        for_a, for_b = g / b, -g * (a / b) / b
    else:
        share = np.where(np.isclose(a, b), 0.5, a > b)
        for_a, for_b = g * share, g * (1 - share)
    return unbroadcast(for_a, a.shape).astype(a.dtype), unbroadcast(for_b, b.shape).astype(b.dtype)
