"""The configuration of an experiment: what its owners' settings are composed to.

One YAML file is one `ExperimentConfig`. A trial's point of the search space turns it into a
`TrainConfig`, validated again. No torch, ray, deepspeed or mlflow is imported here.
"""

from pydantic import model_validator

from components.adapters.methods import AdapterConfig, Setting
from components.adapters.methods.prefix_propagation import PrefixPropagationConfig
from components.backbones.families import BACKBONES
from components.backbones.settings import BackboneConfig
from components.config.cluster import ClusterConfig
from components.config.optimizer import OptimizerConfig
from components.config.registry import RegistryConfig
from components.config.search import SearchConfig
from components.config.study import StudyConfig
from components.config.training import TrainingConfig
from components.config.zero import ZeroConfig
from components.data.settings import DataConfig
from components.evaluation.gate.settings import GateConfig
from components.settings import Config, Name, Seed
from components.tasks import HeadConfig, task_named


class TrainConfig(Config):
    """Everything that decides the outcome of one trial."""

    seed: Seed = 10
    """Seed of initialisation, data order and dropout."""
    backbone: BackboneConfig
    adapter: AdapterConfig = PrefixPropagationConfig()
    head: HeadConfig = HeadConfig()
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    zero: ZeroConfig = ZeroConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "TrainConfig":
        task, family = task_named(self.data.task), BACKBONES[self.backbone.family]
        pooling = self.head.pooling if "pooling" in task.head.model_fields else None
        setting = Setting(
            family=family,
            task=task,
            pooling=pooling,
            precision=self.training.precision,
        )
        reason = self.adapter.incompatibility(setting) or task.incompatibility(family, pooling)
        if reason is not None:
            raise ValueError(reason)
        if self.training.text_states == "kept" and not self.adapter.text_is_read_apart:
            raise ValueError(
                "training.text_states kept needs a text that does not see what is trained: set "
                f"adapter.placement to {'one_way' if family.rows_see_all_text else 'suffix'}, or "
                "training.text_states to anew"
            )
        if self.training.metric not in task.metrics:
            raise ValueError(
                f"training.metric {self.training.metric} is not measured for data.task "
                f"{task.name}; known: {', '.join(task.metrics)}"
            )
        return self


class ExperimentConfig(TrainConfig):
    """One experiment: a training configuration, what to search in it, and where it runs."""

    name: Name
    """Name of the experiment, in MLflow too: letters, digits, dot, dash, underscore."""
    description: str = ""
    """One line for people."""
    search: SearchConfig = SearchConfig()
    cluster: ClusterConfig = ClusterConfig()
    registry: RegistryConfig = RegistryConfig()
    gate: GateConfig | None = GateConfig()
    """When the search's version takes the champion's place. Null: it stays a challenger."""
    study: StudyConfig = StudyConfig()

    @property
    def model_name(self) -> str:
        return self.registry.model_name or self.name

    @property
    def train_batch_size(self) -> int:
        """Sequences per optimizer step over all workers."""
        return self.training.batch_size(self.cluster.num_workers)

    def train_config(self) -> TrainConfig:
        """The part that decides a trial's outcome, without name, search, cluster and registry."""
        return TrainConfig.model_validate(
            {name: getattr(self, name) for name in TrainConfig.model_fields}
        )
