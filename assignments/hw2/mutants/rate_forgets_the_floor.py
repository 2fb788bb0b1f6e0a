"""Falls to 0."""
# kills: q3c


def learning_rate(step, peak, warmup, total, floor):
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min((step - warmup) / (total - warmup), 1.0)
    return peak * (1 + math.cos(math.pi * done)) / 2
