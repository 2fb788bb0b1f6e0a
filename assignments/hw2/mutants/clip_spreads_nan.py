"""A nan in one gradient makes all numbers nan."""
# kills: q3a


def clip(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = 1.0 if norm <= limit else limit / norm
    return [(g * scale).astype(g.dtype) for g in gradients], norm
