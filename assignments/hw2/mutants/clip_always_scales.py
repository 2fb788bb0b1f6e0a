"""Scales small gradients up to the limit."""
# kills: q3a


def clip(gradients, limit):
    norm = math.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in gradients))
    scale = limit / norm if norm else 1.0
    return [(g * scale).astype(g.dtype) for g in gradients], norm
