"""Rules for arrays of one shape: nothing is summed."""
# kills: q1b


def elementwise_vjp(operation, g, a, b):
    parts = {
        "add": lambda: (g, g),
        "sub": lambda: (g, -g),
        "mul": lambda: (g * b, g * a),
        "div": lambda: (g / b, -g * a / b**2),
        "maximum": lambda: (g * ((a > b) + 0.5 * (a == b)), g * ((a < b) + 0.5 * (a == b))),
    }[operation]()
    return tuple(p.astype(x.dtype) for p, x in zip(parts, (a, b), strict=True))
