"""Clips every gradient to the limit by itself."""
# kills: q3a


def clip(gradients, limit):
    norms = [math.sqrt(float(np.sum(np.square(g, dtype=np.float64)))) for g in gradients]
    scaled = [(g * (limit / n if n > limit else 1.0)).astype(g.dtype) for g, n in zip(gradients, norms, strict=True)]
    return scaled, math.sqrt(sum(n * n for n in norms))
