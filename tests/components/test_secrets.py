"""What leaves the program as text holds no password and no token."""

import pickle
import time

import pytest

from components import secrets
from components.errors import ClusterError
from components.secrets import (
    holds_secret,
    keep_secret,
    secret_values,
    without_secret_value,
    without_secrets,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://ann:s3cr3t@127.0.0.1:9 it", "at http://***@127.0.0.1:9 it"),
        ("postgresql+psycopg2://u:p@ss@db:5432/x", "postgresql+psycopg2://***@db:5432/x"),
        ("mysql://u:p/w@db/x", "mysql://***@db/x"),
        ("no file 'http:/ann:s3cr3t@db/x'", "no file 'http:/***@db/x'"),
        ("https://glpat@git.example/x", "https://***@git.example/x"),
        ("https://h/x?a=1&X-Amz-Signature=ab%2F&b=2", "https://h/x?a=1&X-Amz-Signature=***&b=2"),
        ("https://h/x?sig=ab&se=2", "https://h/x?sig=***&se=2"),
        ("host=db user=u password=pw dbname=x", "host=db user=u password=*** dbname=x"),
        ("--set a.HF_TOKEN=abc", "--set a.HF_TOKEN=***"),
        ("AccountName=n;AccountKey=YQ==;End", "AccountName=n;AccountKey=***;End"),
        ("{'password': 'a b', 'user': 'u'}", "{'password': '***', 'user': 'u'}"),
        ("('authorization', 'Bearer a1b2c3d4')", "('authorization', 'Bearer ***')"),
        ("token hf_" + "a" * 30, "token ***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
    ],
)
def test_a_secret_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/models/demo@champion",
        "models:/demo@champion has tokens=3, data.max_tokens=1024",
        "Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH)",
        "Basic training of a token classifier: pooling=last",
        "git@example.org:x.git",
        "https://example.org/search?query=a&page=2",
    ],
)
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text
    assert not holds_secret(text)


def test_the_environment_says_which_values_are_secret() -> None:
    environ = {
        "HF_TOKEN": "hf-not-of-the-form",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
        "AWS_SESSION_TOKEN": "session-of-aws",
        "PGPASSWORD": "pgpg-pgpg",
        "HTTPS_PROXY": "http://ann:proxy%40pass@proxy:3128",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": "/home/ann/token",
        "GOOGLE_APPLICATION_CREDENTIALS": "/home/ann/key.json",
        "MLFLOW_TRACKING_PASSWORD": "short",
        "PWD": "/home/ann/work",
    }
    assert secret_values(environ) == {
        "hf-not-of-the-form",
        "wJalrXUtnFEMI",
        "session-of-aws",
        "pgpg-pgpg",
        "proxy%40pass",
        "proxy@pass",
    }


def test_values_that_were_told_are_hidden_where_they_stand_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secrets, "_known", set())
    keep_secret({"tr0ub4dor"})
    assert without_secrets("it is tr0ub4dor, not tr0ub4dors") == "it is ***, not tr0ub4dors"


@pytest.mark.parametrize("word", ["x", "a.b-", "http://a:", "token", "'password':", "sk-"])
def test_a_long_text_takes_no_longer_than_it_must(word: str) -> None:
    """A label or a log may be of any length; 0.2 s each on a quiet machine."""
    started = time.process_time()
    without_secrets(word * (200_000 // len(word)))
    assert time.process_time() - started < 4.0


def test_an_error_for_the_user_never_holds_one() -> None:
    error = ClusterError("http://ann:s3cr3t@host refuses")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(error) == str(again) == "http://***@host refuses"


def test_the_value_of_an_entry_whose_name_says_so_is_hidden() -> None:
    assert without_secret_value("hub.hf_token", "plain") == "***"
    assert without_secret_value("hub.hf_token", "") == ""
    assert without_secret_value("max_tokens", "512") == "512"
    assert without_secret_value("source", "http://ann:s3cr3t@host") == "http://***@host"
