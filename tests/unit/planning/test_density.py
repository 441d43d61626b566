"""Density: rows to expect of a period, by hour of the week. Literals in, literals out."""

from __future__ import annotations

import pytest

from voicenter_cdr.core.planning.density import DensityModel

HOUR = 3_600
DAY = 24 * HOUR
WEEK = 7 * DAY


def learn_hour(model: DensityModel, hour: int, rows: int) -> None:
    """Learn so many rows, evenly, of one hour."""
    start = hour * HOUR
    model.learn(start, start + HOUR, [start + place * HOUR // max(1, rows) for place in range(rows)])


def test_density_without_data_is_empty() -> None:
    """Nothing is expected before anything was seen."""
    model = DensityModel()
    assert model.is_empty
    assert model.predict(0, DAY) == 0
    assert model.reach(0, DAY, 10) == DAY


def test_density_average_counts_until_hours_are_seen() -> None:
    """The count of the longest period stands for what is not seen yet; a shorter period does not replace it."""
    model = DensityModel()
    model.note_average(1_000, 10 * DAY)
    model.note_average(1_000, DAY)
    assert not model.is_empty
    assert model.predict(5, 5 + DAY) == pytest.approx(100)
    assert model.predict(0, 3 * WEEK) == pytest.approx(2_100)
    assert model.reach(0, 10 * DAY, 100) == pytest.approx(DAY, abs=1)
    assert model.reach(0, 10 * WEEK, 1_400) == pytest.approx(2 * WEEK, abs=2)
    assert model.reach(0, DAY, 1_000) == DAY


def test_density_hour_is_expected_again_a_week_later() -> None:
    """An hour that was seen to be busy is expected busy, and more so than the same hour of another day."""
    model = DensityModel()
    for week in range(20):
        learn_hour(model, week * 168 + 9, 60)
        learn_hour(model, week * 168 + 10, 0)
        learn_hour(model, week * 168 + 33, 0)
    expected = [model.predict(hour * HOUR, (hour + 1) * HOUR) for hour in (9, 10, 33, 168 + 9)]
    assert expected[0] == pytest.approx(57, abs=1)
    assert expected[1] < 1
    assert expected[2] < 4
    assert expected[3] == expected[0]
    assert 9 * HOUR < model.reach(9 * HOUR, 12 * HOUR, 20) < 9 * HOUR + HOUR // 2


def test_density_weighs_hour_day_and_whole_by_two_hours_each() -> None:
    """An hour of the week as far as it was seen, else the hour of the day, else the average, each to some part."""
    model = DensityModel()
    learn_hour(model, 9, 60)
    learn_hour(model, 10, 0)
    expected = [model.predict(hour * HOUR, (hour + 1) * HOUR) for hour in (9, 10, 33, 34, 35)]
    assert expected == pytest.approx([3600 * (60 + 80) / 10_800, 3600 * 40 / 10_800, 40, 20, 30])


def test_density_hour_of_the_day_knows_no_other_hours() -> None:
    """An hour between two that were seen is an average one."""
    model = DensityModel()
    learn_hour(model, 9, 60)
    learn_hour(model, 11, 12)
    assert model.predict(10 * HOUR, 11 * HOUR) == pytest.approx(36)


def test_density_every_row_learnt_and_every_new_count_is_used_at_once() -> None:
    """Earlier predictions are not kept; the last of equally long periods counts."""
    model = DensityModel()
    model.note_average(100, DAY)
    assert model.predict(0, DAY) == pytest.approx(100)
    model.note_average(200, DAY)
    assert model.predict(0, DAY) == pytest.approx(200)
    learn_hour(model, 5, 0)
    assert model.predict(0, DAY) < 199


def test_density_of_one_second_is_not_empty() -> None:
    """A single second that was seen stands for all."""
    model = DensityModel()
    model.learn(0, 1, [0])
    assert not model.is_empty
    assert model.predict(2 * HOUR, 3 * HOUR) == pytest.approx(HOUR)


def test_density_reaches_far_where_a_week_brings_less_than_a_row() -> None:
    """Weeks are skipped by their rows, however few; beyond the period there is nothing to reach."""
    model = DensityModel()
    model.note_average(5, 10 * WEEK)
    assert model.reach(HOUR, 10 * WEEK, 2) == pytest.approx(HOUR + 4 * WEEK, abs=2)
    assert model.reach(HOUR, 10 * WEEK, 50) == 10 * WEEK


def test_density_of_millennia_costs_no_time() -> None:
    """Whole weeks are taken together."""
    model = DensityModel()
    model.learn(0, 10**12, [5])
    assert model.predict(0, 10**12) == pytest.approx(1, abs=0.01)
    assert model.reach(0, 10**12, 2) == 10**12
    assert DensityModel().reach(0, 10**12, 2) == 10**12


def test_density_burst_is_not_usual() -> None:
    """Rows beyond four times the average do not count: a burst shows nothing of the same hour in other weeks."""
    model, burst = DensityModel(), DensityModel()
    for each, rows in ((model, 400), (burst, 40_000)):
        each.note_average(24_000, 10 * DAY)  # 100 an hour
        learn_hour(each, 9, rows)
    assert burst.predict(9 * HOUR, 10 * HOUR) == pytest.approx(model.predict(9 * HOUR, 10 * HOUR))
    assert model.predict(9 * HOUR, 10 * HOUR) == pytest.approx((400 + 400) / 3)


def test_density_learns_parts_of_hours() -> None:
    """A period that begins and ends within hours counts its seconds of each, and only its own rows."""
    model = DensityModel()
    model.learn(HOUR - 100, HOUR + 100, [HOUR - 200, HOUR - 50, HOUR - 1, HOUR, HOUR + 99, HOUR + 100])
    assert model._seconds[0] == model._seconds[1] == 100
    assert (model._rows[0], model._rows[1]) == (2, 2)
    model.note_average(24_000, 10 * DAY)
    model.learn(HOUR - 100, HOUR + 100, [HOUR - 1, HOUR, HOUR + 1, HOUR + 2])
    assert (model._rows[0], model._rows[1]) == (3, 5)


def test_density_learns_whole_weeks_at_once() -> None:
    """Of a long period every hour of the week is seen as often as there are weeks."""
    model = DensityModel()
    model.learn(HOUR, 2 * WEEK + 2 * HOUR, [10, HOUR + 9, WEEK + 10, WEEK + HOUR + 5, 2 * WEEK + HOUR + 7])
    assert model._seconds[:3] == [2 * HOUR, 3 * HOUR, 2 * HOUR]
    assert model._rows[:3] == [2, 3, 0]
