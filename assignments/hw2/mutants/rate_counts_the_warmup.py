"""The cosine starts at step 0, under the warmup."""
# kills: q3c


def learning_rate(step, peak, warmup, total, floor):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(step / total, 1.0)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
