"""Squares in float32, where 1e30 overflows."""
# kills: q3a


def clip(gradients, limit):
    norm = float(np.sqrt(sum((np.sum(g * g) for g in gradients), np.float32(0))))
    scale = limit / norm if norm > limit else 1.0
    return [(g * scale).astype(g.dtype) for g in gradients], norm
