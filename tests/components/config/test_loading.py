"""Configuration errors name the path, what was given and the fix; equal settings have equal
hashes.
"""

import re
from pathlib import Path

import pytest

from components.config import config_sha256, load_experiment, trial_config
from components.config.loading import check_overrides
from components.errors import ConfigError

MINIMAL = """
name: toy
backbone: {source: local, name_or_path: folder, family: longformer}
data: {files: {train: train.jsonl}}
optimizer: {learning_rate: 1e-3}
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    return str(path)


def refused(tmp_path: Path, text: str = MINIMAL, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_experiment(write(tmp_path, text), overrides)
    return str(caught.value)


def test_scientific_notation_is_a_number(tmp_path: Path) -> None:
    assert load_experiment(write(tmp_path, MINIMAL)).optimizer.learning_rate == 1e-3


def test_overrides_reach_nested_settings(tmp_path: Path) -> None:
    config = load_experiment(
        write(tmp_path, MINIMAL),
        ["adapter.prefix_length=16", "optimizer.betas=[0.8, 0.99]", "data.files.test=x.csv"],
    )
    assert (config.adapter.prefix_length, config.optimizer.betas, config.data.files.test) == (
        16,
        (0.8, 0.99),
        "x.csv",
    )


def test_unknown_path_suggests_the_nearest(tmp_path: Path) -> None:
    assert (
        refused(tmp_path, MINIMAL, "adapter.prefix_lenght=8")
        == "Unknown config path 'adapter.prefix_lenght'. Did you mean 'adapter.prefix_length'?"
    )
    assert "Did you mean 'optimizer.learning_rate'?" in refused(
        tmp_path, MINIMAL.replace("learning_rate", "learning_rat")
    )


def test_text_is_not_a_number(tmp_path: Path) -> None:
    assert "adapter.prefix_length" in refused(tmp_path, MINIMAL, "adapter.prefix_length='8'")


def test_missing_section_is_named(tmp_path: Path) -> None:
    assert "backbone.family is required" in refused(
        tmp_path, MINIMAL.replace(", family: longformer", "")
    )


def test_repeated_key_is_refused(tmp_path: Path) -> None:
    assert "Repeated key 'name'" in refused(tmp_path, MINIMAL + "name: other\n")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_experiment(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{adapter.prefix_lengt: {choice: [1]}}", "Did you mean 'adapter.prefix_length'"),
        ("{adapter.prefix_length: {choice: [4, 0]}}", "value 0 is refused"),
        ("{optimizer.learning_rate: {log_uniform: [0.0, 1.0]}}", "0 < low < high"),
        ("{optimizer.learning_rate: {choise: [0.1]}}", "expected one of"),
        ("{data.max_tokens: {choice: [64]}}", "stays the same within one search"),
        ("{search.num_trials: {choice: [64]}}", "Unknown config path"),
    ],
)
def test_bad_space_is_refused_before_anything_starts(
    tmp_path: Path, space: str, message: str
) -> None:
    error = refused(tmp_path, MINIMAL + f"search: {{space: {space}}}")
    assert "search.space" in error and message in error


def test_grid_needs_values_to_enumerate(tmp_path: Path) -> None:
    assert "grid searcher" in refused(
        tmp_path,
        MINIMAL
        + "search: {searcher: grid, space: {optimizer.learning_rate: {log_uniform: [1e-4, 1e-2]}}}",
    )


def test_values_that_fit_alone_and_not_together_are_refused(tmp_path: Path) -> None:
    space = (
        "{adapter.rank: {choice: [null, 2, 4]}, adapter.reparametrization: {choice: [none, mlp]}}"
    )
    error = refused(tmp_path, MINIMAL + f"search: {{space: {space}}}")
    assert error.startswith(
        "search.space: adapter.rank = 2, adapter.reparametrization = 'mlp' together are refused: "
    )


def test_a_value_may_need_that_of_another_path(tmp_path: Path) -> None:
    """A suffix needs pooling `last`, which is not what the file says for the search to replace."""
    text = MINIMAL.replace("longformer", "decoder") + (
        "search: {space: {adapter.placement: {choice: [suffix]}, head.pooling: {choice: [last]}, "
        "seed: {choice: [1, 2]}}}"
    )
    assert load_experiment(write(tmp_path, text)).search.space["head.pooling"]


def test_a_value_given_twice_is_refused(tmp_path: Path) -> None:
    assert "holds a value twice" in refused(
        tmp_path, MINIMAL + "search: {space: {seed: {choice: [1, 2, 1]}}}"
    )


def test_an_empty_section_can_be_filled_from_the_command_line(tmp_path: Path) -> None:
    config = load_experiment(
        write(tmp_path, MINIMAL + "search:\n"), ["search.space.seed={choice: [1, 2]}"]
    )
    assert list(config.search.space) == ["seed"]


def test_merge_keys_of_yaml_are_read(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "optimizer: {learning_rate: 1e-3}",
        "optimizer: {<<: &o {eps: 1e-7, weight_decay: 0.5}, weight_decay: 0.1}",
    )
    optimizer = load_experiment(write(tmp_path, text)).optimizer
    assert (optimizer.eps, optimizer.weight_decay) == (1e-7, 0.1)


def test_a_point_of_the_space_is_validated_again(tmp_path: Path) -> None:
    config = load_experiment(write(tmp_path, MINIMAL))
    assert trial_config(config, {"adapter.prefix_length": 32}).adapter.prefix_length == 32
    with pytest.raises(ConfigError, match=r"adapter\.prefix_length"):
        trial_config(config, {"adapter.prefix_length": -1})


def test_hash_does_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    one = load_experiment(write(tmp_path, MINIMAL))
    other = load_experiment(write(tmp_path, "\n".join(reversed(MINIMAL.strip().splitlines()))))
    assert config_sha256(one) == config_sha256(other)
    assert config_sha256(one) != config_sha256(
        load_experiment(write(tmp_path, MINIMAL), ["seed=11"])
    )


@pytest.mark.parametrize(
    ("override", "path"),
    [
        ("description=see https://ann:s3cr3t@host/x", "description"),
        ("backbone.name_or_path=https://s3cr3t@host/model", "backbone.name_or_path"),
        ("data.files.train=s3://bucket/x?X-Amz-Signature=s3cr3t", "data.files.train"),
        ("search.space.data.columns.id={choice: ['HF_TOKEN=s3cr3t']}", "search.space.data.colu"),
    ],
)
def test_a_setting_that_holds_a_secret_is_refused_without_showing_it(
    tmp_path: Path, override: str, path: str
) -> None:
    message = refused(tmp_path, MINIMAL, override)
    assert message.startswith(path) and "holds a password or a token" in message
    assert "s3cr3t" not in message


def test_home_and_variables_in_paths_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("SCRATCH", "/scratch/ann")
    config = load_experiment(
        write(tmp_path, MINIMAL),
        [
            "data.files={train: ~/train.csv, validation: $SCRATCH/v.csv, test: a$b.csv}",
            "cluster={storage_path: ~/storage, cache_path: '${SCRATCH}/cache'}",
            "backbone.name_or_path=~/model",
        ],
    )
    files = config.data.files
    assert files is not None
    assert (files.train, files.validation, files.test) == (
        "/home/ann/train.csv",
        "/scratch/ann/v.csv",
        "a$b.csv",
    )
    assert config.backbone.name_or_path == "/home/ann/model"
    assert (config.cluster.storage_path, config.cluster.cache_path) == (
        "/home/ann/storage",
        "/scratch/ann/cache",
    )
    hub = load_experiment(
        write(tmp_path, MINIMAL), ["backbone={source: hub, name_or_path: ~/m, family: longformer}"]
    )
    assert hub.backbone.name_or_path == "~/m"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("cluster.cache_path=$NOT_SET_HERE/cache", r"\$NOT_SET_HERE is not known here"),
        ("cluster.storage_path=~nobody-of-that-name/x", "~nobody-of-that-name is not known"),
        ("cluster.storage_path=''", "is empty"),
        ('cluster.cache_path="a\\0b"', "holds a character that no path can hold"),
        (f"cluster.cache_path=a/{'b' * 256}", "a part of 256 bytes"),
        (f"data.files.train={'ö' * 128}", "a part of 256 bytes"),
        (f"backbone.name_or_path={'b' * 300}/x", "a part of 300 bytes"),
        (f"name={'n' * 101}", "at most 100 characters"),
        (f"registry.model_name={'n' * 300}", "at most 100 characters"),
    ],
)
def test_a_path_or_name_that_no_file_system_takes_is_refused(
    tmp_path: Path, override: str, reason: str
) -> None:
    message = refused(tmp_path, MINIMAL, override)
    assert message.startswith(override.partition("=")[0] + ":")
    assert re.search(reason, message)
    assert len(message) < 800


# --- numbers that a trial could not use ---

NO_NUMBER = {
    "seed": ("-1", "18446744073709551616", "1e30", "true"),
    "optimizer.learning_rate": (".inf", ".nan", "1e300", "-1e-3", "0.0", "1e-300"),
    "optimizer.head_learning_rate": (".inf", "1e300"),
    "optimizer.eps": (".inf", "1e-300", "0"),
    "optimizer.betas": ("[0.9, .nan]", "[1.0, 0.9]"),
    "optimizer.weight_decay": (".inf", "1e300", "-1"),
    "optimizer.max_gradient_norm": (".inf", "1e300", "0"),
    "optimizer.warmup_ratio": (".nan", "1.0"),
    "adapter.prefix_length": ("0", "2147483648"),
    "adapter.init_std": (".inf", "1e300", ".nan"),
    "adapter.dropout": (".nan", "-0.1"),
    "training.epochs": ("0", "1000000000000"),
    "training.micro_batch_size": ("1000000000000",),
    "training.evaluations_per_epoch": ("1000000000000",),
    "zero.reduce_bucket_size": ("1000000000000",),
    "cluster.cpus_per_worker": (".inf", "0"),
    "cluster.placement_timeout_seconds": ("1000000000000",),
    "data.validation_fraction": (".nan", "0.9"),
    "data.split_seed": ("-5", "99999999999999999999"),
    "data.max_tokens": ("1" * 400,),
    "search.num_trials": ("1000000000000",),
    "search.max_failures": ("-1", "1000000000000"),
}


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in NO_NUMBER.items() for value in values]
)
def test_a_number_that_no_trial_can_use_is_refused_by_its_own_path(
    path: str, value: str, tmp_path: Path
) -> None:
    assert refused(tmp_path, MINIMAL, f"{path}={value}").startswith(path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", "18446744073709551615"),
        ("optimizer.learning_rate", "1e3"),
        ("optimizer.learning_rate", "1e-30"),
        ("training.epochs", "1000000"),
        ("zero.param_persistence_threshold", "0"),
    ],
)
def test_the_ends_of_what_a_trial_can_use_are_taken(path: str, value: str, tmp_path: Path) -> None:
    assert load_experiment(write(tmp_path, MINIMAL), [f"{path}={value}"])


@pytest.mark.parametrize(
    ("space", "path"),
    [
        ("{optimizer.learning_rate: {choice: [1e-3, .inf]}}", "optimizer.learning_rate"),
        ("{optimizer.learning_rate: {log_uniform: [1e-3, .inf]}}", "optimizer.learning_rate"),
        ("{optimizer.learning_rate: {uniform: [1e-3, 1e300]}}", "optimizer.learning_rate"),
        ("{seed: {integer: [0, 99999999999999999999]}}", "seed"),
        ("{adapter.prefix_length: {choice: [4, 1e300]}}", "adapter.prefix_length"),
    ],
)
def test_a_value_of_the_space_that_no_trial_can_use_is_refused_by_the_spaces_path(
    space: str, path: str, tmp_path: Path
) -> None:
    assert refused(tmp_path, MINIMAL + f"search: {{space: {space}}}").startswith(
        f"search.space.{path}"
    )


def test_grids_of_more_trials_than_any_search_has_are_refused(tmp_path: Path) -> None:
    grid = "search: {searcher: grid, space: {seed: {integer: [0, 1000000]}}}"
    assert "search.space: seed 1,000,001 are 1,000,001 trials" in refused(tmp_path, MINIMAL + grid)
    drawn = (
        "search: {num_trials: 50000, space: {seed: {grid: [1, 2, 3]}, "
        "optimizer.learning_rate: {log_uniform: [1e-3, 1e-2]}}}"
    )
    assert "search.num_trials 50,000 x seed 3" in refused(tmp_path, MINIMAL + drawn)


def test_evaluations_of_one_trial_are_bounded_together(tmp_path: Path) -> None:
    many = ("training.epochs=100000", "training.evaluations_per_epoch=1000")
    assert refused(tmp_path, MINIMAL, *many).startswith("training: epochs 100000 x")
    assert load_experiment(write(tmp_path, MINIMAL), [*many, "training.max_steps=500"])


# --- what YAML reads and no setting is ---


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 2024-01-01", "seed: '2024-01-01' is a date"),
        ("description: !!binary aGk=", "description: .* is a bytes"),
        ("search: {space: {seed: {choice: !!set {1, 2}}}}", "is a set"),
        ("search: {2024-01-01: 2}", "search: the key .* is no text"),
        ('description: "\\uD800"', "half a character|not readable as YAML"),
        ("seed: 2024-13-45", "not readable as YAML"),
        ("description: {[1]: 2}", "not readable as YAML"),
        ("description: &a [*a]", "nested deeper|not readable as YAML"),
        ("description: " + "[" * 5000, "nested too deep|not readable as YAML"),
        ("seed: " + "1" * 5000, "not readable as YAML"),
    ],
)
def test_what_yaml_reads_and_no_setting_is_has_a_line_of_its_own(
    text: str, message: str, tmp_path: Path
) -> None:
    assert re.search(message, error := refused(tmp_path, MINIMAL + text + "\n")), error


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"{'abcdefghij'[n]}x: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 200,000 values" in refused(tmp_path, MINIMAL + "\n".join(lines) + "\n")


# --- overrides of what is searched ---

SPACE = "search: {space: {adapter.prefix_length: {choice: [4, 8]}}}\n"


@pytest.mark.parametrize(
    "override",
    [
        "adapter.prefix_length=1000000",
        " adapter.prefix_length =16",
        "adapter={prefix_length: 16}",
        "adapter={method: prefix_tuning, prefix_length: 16}",
    ],
)
def test_an_override_of_what_is_searched_names_both_paths(override: str, tmp_path: Path) -> None:
    config = load_experiment(write(tmp_path, MINIMAL + SPACE), [override])
    with pytest.raises(ConfigError) as caught:
        check_overrides(config, [override])
    where = "search.space.adapter.prefix_length: its values are searched"
    assert str(caught.value).startswith(where)
    assert f"--set {override}" in str(caught.value)


def test_the_space_that_a_file_leaves_out_is_searched_too(tmp_path: Path) -> None:
    config = load_experiment(write(tmp_path, MINIMAL))
    with pytest.raises(ConfigError, match=r"search\.space\.optimizer\.learning_rate"):
        check_overrides(config, ["optimizer.learning_rate=1e-3"])


@pytest.mark.parametrize(
    "override",
    [
        "search.space.adapter.prefix_length={choice: [16]}",
        "adapter.init_std=0.1",
        "adapter={method: prefix_tuning}",
        "seed=4",
        "search.num_trials=2",
    ],
)
def test_other_overrides_are_taken(override: str, tmp_path: Path) -> None:
    check_overrides(load_experiment(write(tmp_path, MINIMAL + SPACE), [override]), [override])
