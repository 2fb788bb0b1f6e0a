"""maximum: a tie goes to a alone."""
# kills: q1b


def elementwise_vjp(operation, g, a, b):
    parts = {
        "add": lambda: (g, g),
        "sub": lambda: (g, -g),
        "mul": lambda: (g * b, g * a),
        "div": lambda: (g / b, -g * a / b**2),
        "maximum": lambda: (g * (a >= b), g * (a < b)),
    }[operation]()
    return tuple(unbroadcast(p, x.shape).astype(x.dtype) for p, x in zip(parts, (a, b), strict=True))
