"""Takes GB for GiB."""
# kills: q5d q5e


def to_bytes(amount, unit):
    return amount if unit == "B" else amount * 1024 ** ("kmgt".index(unit[0].lower()) + 1)
