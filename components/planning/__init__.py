"""What an experiment will take, and whether it can work at all, from its configuration and the
backbone's config.json alone. No torch is imported.
"""

from components.backbones import BackboneShape, backbone_shape
from components.planning.capacity import Capacity, Layout
from components.planning.feasibility import check_feasible, check_resources, trainings_of
from components.planning.gpus import Gpus, cluster_gpus
from components.planning.measured import Measured, remember, remembered
from components.planning.memory import WorkerMemory, worker_memory
from components.planning.placement import Node, check_placement, node_of
from components.planning.plan import Plan, PointPlan, Resources, make_plan
from components.planning.wanted import Wanted, search_wanted

__all__ = [
    "BackboneShape",
    "Capacity",
    "Gpus",
    "Layout",
    "Measured",
    "Node",
    "Plan",
    "PointPlan",
    "Resources",
    "Wanted",
    "WorkerMemory",
    "backbone_shape",
    "check_feasible",
    "check_placement",
    "check_resources",
    "cluster_gpus",
    "make_plan",
    "node_of",
    "remember",
    "remembered",
    "search_wanted",
    "trainings_of",
    "worker_memory",
]
