"""Asks for each step about each value: right, and far too slow for long programs."""
# kills: q4c


def live_bytes(program, sizes, keep):
    found = []
    for now in range(len(program)):
        live = 0
        for value in range(now + 1):
            late = any(value in program[user][1] for user in range(now, len(program)))
            live += sizes[value] if value == now or value in keep or late else 0
        found.append(live)
    return found
