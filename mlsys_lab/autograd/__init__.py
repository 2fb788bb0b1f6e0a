"""The engine: tensors, the tape, the differentiation table.

`ag.Tensor`, creation, operations named as in the Python array API standard, `backward`, `grad`, `jacobian`,
hooks, checkpoints, anomaly mode, `override`, `observe`. Arrays in, arrays out; one tensor among
the arguments makes a tensor.
"""

from __future__ import annotations

import ml_dtypes as _ml_dtypes
import numpy as _np

from mlsys_lab._core.gemm import gemm_provider
from mlsys_lab.autograd.check import gradcheck
from mlsys_lab.autograd.creation import (
    arange, asarray, eye, full, linspace, ones, ones_like, zeros, zeros_like,
)  # fmt: skip
from mlsys_lab.autograd.errors import DtypeError, GraphError, InplaceError, NonFiniteError, ShapeError
from mlsys_lab.autograd.extend import override, primitive
from mlsys_lab.autograd.functional import (
    argmax, argmin, argsort, clip, concat, cumulative_sum, einsum, expand_dims, flip, gelu, log_softmax,
    logsumexp, max, mean, min, moveaxis, pad, prod, roll, softmax, sort, split, squeeze, stack, std, sum,
    take, topk, tril, triu, var,
)  # fmt: skip
from mlsys_lab.autograd.fused_rows import (
    attention, bias_gelu, bias_relu, cross_entropy, embedding, layer_norm, linear, packed_attention,
    rms_norm,
)  # fmt: skip
from mlsys_lab.autograd.inplace import note_change
from mlsys_lab.autograd.network import avg_pool2d, conv2d, erf, max_pool2d, relu, sigmoid, silu, softplus
from mlsys_lab.autograd.primitives import (
    abs_ as abs, acos, add, asin, astype, atan, broadcast_to, ceil, cos, cosh, divide, equal, exp, expm1,
    floor, greater, greater_equal, isfinite, isnan, less, less_equal, log, log1p, log2, logaddexp,
    logical_and, logical_not, logical_or, matmul, matrix_transpose, maximum, minimum, multiply, negative,
    not_equal, permute_dims, pow_ as pow, reshape, round_ as round, sign, sin, sinh, sqrt, square,
    subtract, tan, tanh, where,
)  # fmt: skip
from mlsys_lab.autograd.shaping import take_along_axis
from mlsys_lab.autograd.tensor import Tensor
from mlsys_lab.autograd.transforms import (
    checkpoint, enable_grad, grad, hessian_vector_product, jacobian, no_grad,
)  # fmt: skip
from mlsys_lab.autograd.watch import detect_anomaly, observe

float16, float32, float64 = _np.dtype(_np.float16), _np.dtype(_np.float32), _np.dtype(_np.float64)
bfloat16 = _np.dtype(_ml_dtypes.bfloat16)
int32, int64, bool_ = _np.dtype(_np.int32), _np.dtype(_np.int64), _np.dtype(_np.bool_)
