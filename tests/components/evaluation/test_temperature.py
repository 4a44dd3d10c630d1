"""Laws of temperature scaling."""

import numpy as np
import pytest

from components.evaluation import calibration_report, fit_temperature, nll, softmax


def overconfident(seed=0, *, documents=400, classes=3, factor=4.0):
    """Logits whose honest temperature is `factor`: labels are drawn from softmax(logits /
    factor).
    """
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(documents, classes)) * factor * 1.5
    honest = softmax(logits, temperature=factor)
    labels = np.array([generator.choice(classes, p=row) for row in honest])
    return logits, labels


def test_temperature_of_overconfident_logits_is_found():
    logits, labels = overconfident(documents=4000)
    # 4000 documents: the fitted temperature scatters by a few percent around 4.
    assert fit_temperature(logits, labels) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_temperature_never_raises_nll_and_never_changes_an_answer(seed, factor):
    logits, labels = overconfident(seed, factor=factor)
    temperature = fit_temperature(logits, labels)
    assert (
        nll(softmax(logits, temperature=temperature), labels)
        <= nll(softmax(logits), labels) + 1e-12
    )
    assert (softmax(logits, temperature=temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


def test_temperature_is_the_minimum_of_nll():
    logits, labels = overconfident(1)
    temperature = fit_temperature(logits, labels)
    best = nll(softmax(logits, temperature=temperature), labels)
    for other in (temperature * 0.99, temperature * 1.01):
        assert nll(softmax(logits, temperature=other), labels) > best


def test_log_probabilities_give_the_temperature_of_their_logits():
    logits, labels = overconfident(2)
    assert fit_temperature(np.log(softmax(logits)), labels) == pytest.approx(
        fit_temperature(logits, labels), rel=1e-6
    )


@pytest.mark.parametrize(("label", "end"), [(0, 0.05), (1, 20.0)])
def test_temperature_stays_in_its_range_when_all_answers_are_right_or_wrong(label, end):
    logits = np.tile([3.0, 0.0], (20, 1))
    # NLL is flat to the last bit near the lower end, so the fit may stop a little before it.
    assert fit_temperature(logits, np.full(20, label)) == pytest.approx(end, abs=0.05)


def test_report_holds_what_the_artifact_stores():
    logits, labels = overconfident(3)
    report = calibration_report(logits, labels)
    assert report["validation_size"] == 400
    assert report["ece_after"] < report["ece_before"]
    assert report["nll_after"] < report["nll_before"]


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        fit_temperature(np.array([[np.inf, 0.0]]), np.array([0]))
