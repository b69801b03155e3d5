"""The history as a table."""

import math

from skorchlike.model.history import history_frame


def test_columns_stand_in_a_fixed_order_and_missing_values_are_missing():
    records = [
        {"epoch": 1, "train_loss": 2.0, "lr": 0.1, "mine": 5, "duration": 0.5},
        {"epoch": 2, "train_loss": 1.0, "lr": 0.1, "valid_loss": 3.0, "valid_r2": 0.5},
    ]
    frame = history_frame(records)
    assert list(frame.columns) == [
        "epoch",
        "train_loss",
        "valid_loss",
        "mine",
        "valid_r2",
        "lr",
        "duration",
    ]
    assert frame["train_loss"].tolist() == [2.0, 1.0]
    assert math.isnan(frame["valid_loss"][0])
    assert frame["valid_loss"][1] == 3.0


def test_no_epochs_give_an_empty_table():
    frame = history_frame([])
    assert len(frame) == 0
    assert "epoch" in frame.columns
