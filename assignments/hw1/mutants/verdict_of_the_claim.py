"""Takes 2 % of the claimed number instead of the true one."""
# kills: q5e


def audit(claims):
    found = []
    for name, arguments, amount, unit in claims:
        true, claimed = FORMULAS[name](**arguments), to_bytes(amount, unit)
        near = abs(claimed - true) <= 0.02 * claimed
        found.append((true, "right" if near else "too low" if claimed < true else "too high"))
    return found
