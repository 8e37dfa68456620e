"""Numbers and verdicts as the page writes them."""

import pytest

from vitpipe.report.format import difference, entry, interval, number, region_verdict, signed, trust_verdict


def test_numbers_as_text():
    assert [number(None, "psnr"), number(-0.123456, "mse"), number(1.0, "recall")] == ["–", "−0.12346", "100.0"]
    small = [number(-0.0004, "deletion"), number(-0.0005001, "deletion"), number(-1e-9, "accuracy")]
    assert small == ["0.000", "−0.001", "0.0"]
    assert number(1234567, "tokens") == "1\u202f234\u202f567"
    assert [signed(0.5, "psnr"), signed(-0.5, "psnr")] == ["+0.50", "−0.50"]
    assert [signed(0.0, "accuracy"), signed(-0.0004, "accuracy"), signed(0.1, "accuracy")] == ["±0.0", "±0.0", "+10.0"]
    assert [difference(-0.0022, "accuracy"), difference(2.5, "psnr")] == ["−0.2 points", "+2.50 dB"]
    assert interval({"accuracy": 0.5, "accuracy_low": 0.4}, "accuracy") == ""
    assert [entry("", "val_accuracy"), entry("28.0625", "val_psnr")] == ["", "28.0625"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "looks at it and follows it when it moves"),
        ({"lift_low": 0.7, "lift_high": 0.9}, "looks away from it"),
        ({"lift_low": 0.9}, "not more than its share of the area"),
        ({"lift_low": 0.998, "lift_high": 0.9996}, "not more than its share of the area"),
        ({"lift_low": 1.004, "lift_high": 1.02}, "not more than its share of the area"),
        ({"lift_content_low": 0.98}, "looks by place"),
        ({"lift_content_low": 1.004}, "looks by place"),
        ({"lift_content_low": 0.7, "lift_content_high": 0.9}, "looks at it by place, and content turns it away"),
        ({"content_lift_low": 0.98}, "looks at the place, does not follow the content"),
        ({"content_lift_low": 1.004}, "looks at the place, does not follow the content"),
        ({"survives": 0}, "follows the content, no more than untrained"),
    ],
)
def test_regions_in_words(changes, words):
    found = {"lift_low": 1.9, "lift_high": 2.1, "content_lift_low": 1.3, "survives": 1, "lift_untrained": 1.2}
    found |= {"lift_content_low": 1.4, "lift_content_high": 1.6}
    assert region_verdict(found | changes) == words


def test_trust_in_words():
    assert trust_verdict({"deletion_gain_low": 0.1, "insertion_gain_low": 0.1}) == "better by deletion and insertion"
    assert trust_verdict({"deletion_gain_low": 0.0}) == "not better than the controls"
    same = trust_verdict({"insertion_gain_low": 0.1, "randomised": 0.87})
    assert same == "better by insertion; much the same with random weights"
    assert trust_verdict({"randomised": 0.2}) == "not better than the controls"
