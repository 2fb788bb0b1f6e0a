"""An array of one element takes the dtype of the Tensor, whatever axes it has."""
# kills: q2c


def combine(operation, left, right):
    beside = left if isinstance(left, Tensor) else right
    places = []
    for operand in (left, right):
        if not isinstance(operand, Tensor):
            value = np.asarray(operand)
            value = value.astype(beside.dtype) if value.size == 1 else value
            operand = beside.tape.step("constant", value=value)
        elif operand.tape is not beside.tape:
            raise ValueError("the two tensors lie on different tapes: trace them together")
        places.append(operand.place)
    return beside.tape.step(operation, places)
