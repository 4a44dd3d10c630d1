"""A search in simulated time: the program's own decisions, modelled times. No torch is
imported, and Ray Tune where its trial scheduler or its draws are asked.
"""

from components.simulation.course import Course, Courses
from components.simulation.layouts import KnownTrials, growing, simulated_layout
from components.simulation.losses import Loss, LossRates, drawn_losses
from components.simulation.simulated_search import Simulated, SimulatedTrial, SlotTimes, simulate
from components.simulation.step_time import Network, Share, StepRate, Traffic, share_of, traffic_of

__all__ = [
    "Course",
    "Courses",
    "KnownTrials",
    "Loss",
    "LossRates",
    "Network",
    "Share",
    "Simulated",
    "SimulatedTrial",
    "SlotTimes",
    "StepRate",
    "Traffic",
    "drawn_losses",
    "growing",
    "share_of",
    "simulate",
    "simulated_layout",
    "traffic_of",
]
