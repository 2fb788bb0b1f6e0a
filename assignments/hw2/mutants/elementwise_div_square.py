"""div: the slope for b lacks its second division."""
# kills: q1b


def elementwise_vjp(operation, g, a, b):
    parts = {
        "add": lambda: (g, g),
        "sub": lambda: (g, -g),
        "mul": lambda: (g * b, g * a),
        "div": lambda: (g / b, -g * a / b),
        "maximum": lambda: (g * ((a > b) + 0.5 * (a == b)), g * ((a < b) + 0.5 * (a == b))),
    }[operation]()
    return tuple(unbroadcast(p, x.shape).astype(x.dtype) for p, x in zip(parts, (a, b), strict=True))
