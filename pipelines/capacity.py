"""How many slots of how many GPUs a search is worth: its plan, carried on to clusters that are not
there.

Answers where a rate was measured, and nowhere else: a trial of this kind has run on machines that
share the cache. It imports ray.tune, whose decisions it asks, so a dry run goes without.
"""

from dataclasses import replace

from components.backbones import backbone_shape, inspect_backbone
from components.config import ExperimentConfig
from components.planning import Capacity, Plan, make_plan, search_wanted
from components.planning.memory import weights_bytes
from components.simulation import (
    KnownTrials,
    LossRates,
    Network,
    SlotTimes,
    StepRate,
    growing,
    share_of,
    simulated_layout,
    traffic_of,
)

SIZES = tuple(2**power for power in range(11))
"""Of clusters, in GPUs, where there are none in workers: 1 to 1,024."""
MOST_TRIALS = 2_000
"""Of a search that is simulated: more take more than a few seconds for each size."""
START_SECONDS, FURTHER_TRIAL_SECONDS, DETECTED_SECONDS = 12.0, 1.0, 3.0
"""Of a slot: processes, imports and Tune (assumed, of an idle machine); between two trials, and
until a loss is noticed (measured on two CPU cores: components/tuning and components/jobs).
"""
BYTES_READ_PER_SECOND = 1e9
"""Of a backbone from storage, by each slot."""


def with_capacity(config: ExperimentConfig, plan: Plan, *, lost_nodes_per_day: float = 0.0) -> Plan:
    """The plan with its answer; as it is where no rate is known, where there are more than
    MOST_TRIALS trials, and where no size has the memory for a slot.
    `lost_nodes_per_day`: how often a node of the cluster fails or is taken away (preempted), each.
    """
    if plan.measured is None or plan.train_documents is None or plan.trials > MOST_TRIALS:
        return plan
    known = _known_trials(config, plan, LossRates(per_node_hour=lost_nodes_per_day / 24.0))
    cluster = config.cluster
    configured = simulated_layout(
        known,
        plan.slots * cluster.num_workers,
        slots=min(plan.slots, known.most_slots),
        workers=cluster.num_workers,
    )
    rooms = _rooms(config, plan)
    layouts = tuple(growing(known, rooms))
    if not layouts:
        return plan
    stays = layouts[-1].room < rooms[-1]
    told = Capacity(configured, layouts, stays, _assumptions(known, plan))
    return replace(plan, capacity=told)


def _rooms(config: ExperimentConfig, plan: Plan) -> list[int]:
    """Workers that find a place on clusters of growing size, the one that is there among them."""
    each, resources = config.cluster.gpus_per_worker, plan.resources
    if each:
        own = resources.gpus or 0.0
        return sorted({int(gpus / each) for gpus in (*SIZES, own)} - {0})
    own = (resources.cpus or 0.0) / config.cluster.cpus_per_worker
    return sorted({*SIZES, int(own)} - {0})


def _known_trials(config: ExperimentConfig, plan: Plan, losses: LossRates) -> KnownTrials:
    wanted = search_wanted(config)
    assert plan.measured is not None and plan.train_documents is not None
    shape, first = backbone_shape(inspect_backbone(config.backbone)), wanted.settings[0]
    workers = config.cluster.num_workers
    trainable = max(point.trainable_parameters for point in plan.points)
    loading = weights_bytes(first, shape, num_workers=1, stage=0) / BYTES_READ_PER_SECOND
    start = START_SECONDS + loading
    return KnownTrials(
        config,
        documents=plan.train_documents,
        trials=plan.trials,
        rate=StepRate(
            plan.measured.seconds_per_step,
            workers,
            share_of(first, workers),
            traffic_of(first, shape, trainable=trainable),
        ),
        times=SlotTimes(start, FURTHER_TRIAL_SECONDS, start + DETECTED_SECONDS),
        losses=losses,
        fits=lambda ranks: _fits(config, plan, ranks),
    )


def _fits(config: ExperimentConfig, plan: Plan, workers: int) -> bool:
    """Whether every point fits slots of so many workers, as far as is known: what is configured
    does, and more of them need no more.
    """
    if 0 < config.cluster.gpus_per_worker < 1:
        return workers == 1
    if workers >= config.cluster.num_workers:
        return True
    cluster = config.cluster.model_copy(update={"num_workers": workers})
    search = config.search.model_copy(update={"concurrent_slots": 1})
    smaller = config.model_copy(update={"cluster": cluster, "search": search})
    # Room for memory alone: how many there are is what is asked.
    resources = replace(plan.resources, cpus=None, gpus=None)
    told = make_plan(
        search_wanted(smaller), inspect_backbone(config.backbone), resources, plan.measured
    )
    return all(point.fits for point in told.points)


def _beside(plan: Plan) -> str:
    """That a step is one of several side by side, where it is."""
    return "" if plan.trials_per_slot == 1 else f" beside {plan.trials_per_slot - 1} others"


def _assumptions(known: KnownTrials, plan: Plan) -> str:
    network, times, losses = Network(), known.times, known.losses
    assert plan.measured is not None
    lost = (
        f"each node is lost {24 * losses.per_node_hour:g} times a day and replaced after "
        f"{losses.node_away_seconds:.0f} s"
        if losses.per_node_hour
        else "no worker is lost"
    )
    return (
        f"a step takes {plan.measured.seconds_per_step:.2g} s on {known.configured_workers} "
        f"worker(s){_beside(plan)}, as {plan.measured.trial} did; more share its documents, whole "
        f"ones, and send {network.bytes_in_node / 1e9:.0f} GB/s in nodes of "
        f"{network.workers_per_node}, "
        f"{network.bytes_between_nodes / 1e9:.0f} between them; a slot starts in "
        f"{times.start:.0f} s, a further trial in {times.further_trial:.0f} s; which trials lead "
        f"is drawn by the seed; {lost}; the last evaluation and the gate are left out"
    )
