"""How much memory, time, money and energy a model takes: exact where it can be, an interval where not.

`model("llama-2-7b").parameters`; `ModelSpec.from_hf("config.json")`; `training_memory`; `step_time`.
"""

from mlsys_lab._core.hardware import Device, device
from mlsys_lab.capacity.collectives import collective_s, volume_bytes
from mlsys_lab.capacity.comparison import Comparison, compare
from mlsys_lab.capacity.convnets import ConvNet, convnet
from mlsys_lab.capacity.explore import Explorer, explore
from mlsys_lab.capacity.flops import forward_flops, operations, six_nd, train_flops
from mlsys_lab.capacity.hf import NotAModel
from mlsys_lab.capacity.inference import Serving
from mlsys_lab.capacity.interval import Interval
from mlsys_lab.capacity.liveness import Trace
from mlsys_lab.capacity.models import MLA, Counted, Counts, ModelSpec, MoE
from mlsys_lab.capacity.parallel import Parallel, Workload
from mlsys_lab.capacity.plan_file import Plan, as_plan, read_plans
from mlsys_lab.capacity.plan_search import Search, search
from mlsys_lab.capacity.roofline import Roofline, roofline
from mlsys_lab.capacity.runs import gpu_hours, utilisation
from mlsys_lab.capacity.serving_plan import Load, NoPlan, ServingPlan, fewest_gpus
from mlsys_lab.capacity.step_time import StepTime, step_time
from mlsys_lab.capacity.trace_step import trace
from mlsys_lab.capacity.train_run import TrainingRun, training_run
from mlsys_lab.capacity.training import TrainingMemory, training_memory
from mlsys_lab.capacity.weights import Weight
from mlsys_lab.capacity.zoo import language_model, model, names

__all__ = [
    "MLA",
    "Comparison",
    "ConvNet",
    "Counted",
    "Counts",
    "Device",
    "Explorer",
    "Interval",
    "Load",
    "MoE",
    "ModelSpec",
    "NoPlan",
    "NotAModel",
    "Parallel",
    "Plan",
    "Roofline",
    "Search",
    "Serving",
    "ServingPlan",
    "StepTime",
    "Trace",
    "TrainingMemory",
    "TrainingRun",
    "Weight",
    "Workload",
    "as_plan",
    "collective_s",
    "compare",
    "convnet",
    "device",
    "explore",
    "fewest_gpus",
    "forward_flops",
    "gpu_hours",
    "language_model",
    "model",
    "names",
    "operations",
    "read_plans",
    "roofline",
    "search",
    "six_nd",
    "step_time",
    "trace",
    "train_flops",
    "training_memory",
    "training_run",
    "utilisation",
    "volume_bytes",
]
