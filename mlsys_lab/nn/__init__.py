"""Modules, layers, losses, GPT, named and called as in torch.nn; `nn.functional`, `nn.init`."""

from mlsys_lab.nn import functional, init
from mlsys_lab.nn.attention import KVCache, MultiHeadAttention, rotary
from mlsys_lab.nn.functional import autocast
from mlsys_lab.nn.gpt import GPT, MLP, Block, GPTConfig
from mlsys_lab.nn.init import manual_seed
from mlsys_lab.nn.layers import (
    GELU, Conv2d, Dropout, Embedding, Flatten, LayerNorm, Linear, MaxPool2d, ReLU, RMSNorm, Sequential,
    Sigmoid, SiLU, Tanh,
)  # fmt: skip
from mlsys_lab.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, L1Loss, MSELoss, NLLLoss
from mlsys_lab.nn.module import Module, ModuleList, Parameter
from mlsys_lab.nn.safetensors import load_safetensors, save_safetensors
