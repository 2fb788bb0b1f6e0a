"""Changes m and v of the state that it was given."""
# kills: q3b


def adamw(parameters, gradients, state, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    moved, remembered = [], dict(state)
    for place, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if g is None:
            moved.append(p)
            continue
        t, m, v = remembered.get(place, (0, np.zeros_like(p), np.zeros_like(p)))
        t += 1
        m *= betas[0]
        m += (1 - betas[0]) * g
        v *= betas[1]
        v += (1 - betas[1]) * g * g
        step = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        moved.append((p - lr * weight_decay * p - lr * step).astype(p.dtype))
        remembered[place] = (t, m, v)
    return moved, remembered
