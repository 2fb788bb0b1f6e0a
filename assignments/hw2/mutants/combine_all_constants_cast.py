"""Arrays are cast to the Tensor's dtype as well."""
# kills: q2c


def combine(operation, left, right):
    beside = left if isinstance(left, Tensor) else right
    places = []
    for operand in (left, right):
        if not isinstance(operand, Tensor):
            value = np.asarray(operand)
            operand = beside.tape.step("constant", value=value.astype(beside.dtype))
        elif operand.tape is not beside.tape:
            raise ValueError("two tapes")
        places.append(operand.place)
    return beside.tape.step(operation, places)
