"""Divides by a norm of 0."""
# kills: q3a


def clip(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = min(1.0, limit / norm)
    return [(g * scale).astype(g.dtype) for g in gradients], norm
