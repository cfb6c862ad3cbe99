"""The decisions of the Servo bridge, without ROS, on a clock of the test's own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from hand_mesh_ros.geometry.rotations import exp_so3
from hand_mesh_ros.ros.servo_bridge import (
    BridgeSettings,
    Command,
    ServoBridge,
    Sighting,
    clamped,
)

PERIOD = 1 / 30
LATENCY = 0.1
START_NS = 1_700_000_000_000_000_000


@dataclass
class Play:
    """A hand in front of a bridge: 30 sightings and 60 commands a second, seen 0.1 s late."""

    bridge: ServoBridge
    t: float = 0.0
    last: Command | None = None

    def sighting(self, capture: float, pinch: float, **changes: Any) -> Sighting:
        """A hand that moves at 0.1 m/s along y and turns at 0.5 rad/s about z."""
        T = np.eye(4)
        T[1, 3] = 0.1 * capture
        T[:3, :3] = exp_so3(np.array([0, 0, 0.5 * capture]))
        made = Sighting(
            stamp_ns=START_NS + round(capture * 1e9),
            frame_id="world",
            track_id=7,
            confidence=0.9,
            T=T,
            covariance=np.diag([1e-6] * 3 + [1e-4] * 3),
            pinch=pinch,
        )
        return replace(made, **changes)

    def run(self, seconds: float, pinch: float, seen: bool = True, **changes: Any) -> list[Command]:
        """Everything that was commanded."""
        out: list[Command] = []
        for _ in range(round(seconds / PERIOD)):
            now = START_NS + round(self.t * 1e9)
            hands = [self.sighting(self.t - LATENCY, pinch, **changes)] if seen else []
            self.bridge.see(hands, now, self.t)
            for half in (0.0, PERIOD / 2):
                command = self.bridge.command(now + round(half * 1e9), self.t + half)
                out += [command] if command is not None else []
            self.t += PERIOD
        return out


@pytest.fixture
def play() -> Play:
    return Play(ServoBridge())


def engaged(play: Play) -> Play:
    """The fingers were seen open and are pinched now, the hand moves."""
    assert play.run(0.3, 0.1) == []
    commands = play.run(0.8, 0.01)
    assert play.bridge.state == "engaged"
    assert not any(command.stops for command in commands)
    return play


def test_velocity_of_the_hand_reaches_the_robot(play: Play) -> None:
    engaged(play)
    commands = play.run(0.5, 0.01)
    assert len(commands) == 30
    last = commands[-1]
    assert last.frame_id == "world"
    np.testing.assert_allclose(last.linear, [0, 0.1, 0], atol=1e-3)
    np.testing.assert_allclose(last.angular, [0, 0, 0.5], atol=5e-3)


def test_every_command_tells_the_age_of_its_sighting(play: Play) -> None:
    ages = [command.age for command in engaged(play).run(0.5, 0.01)]
    assert min(ages) == pytest.approx(LATENCY, abs=1e-6)
    assert max(ages) == pytest.approx(LATENCY + PERIOD / 2, abs=1e-6)


def test_velocity_is_by_capture_times_whatever_the_arrivals(play: Play) -> None:
    """Sightings arrive in pairs: two at once, then none for a while."""
    bridge, commands = engaged(play).bridge, []
    for k in range(15):
        t = play.t + 2 * k * PERIOD
        now = START_NS + round(t * 1e9)
        for capture in (t - LATENCY - PERIOD, t - LATENCY):
            bridge.see([play.sighting(capture, 0.01)], now, t)
        commands.append(bridge.command(now, t))
    speeds = [command.linear[1] for command in commands if command is not None]
    assert len(speeds) == 15
    np.testing.assert_allclose(speeds, 0.1, atol=1e-3)


def test_scales_apply_to_each_part() -> None:
    play = Play(ServoBridge(BridgeSettings(linear_scale=2.0, angular_scale=0.0)))
    last = engaged(play).run(0.5, 0.01)[-1]
    np.testing.assert_allclose(last.linear, [0, 0.2, 0], atol=1e-3)
    np.testing.assert_array_equal(last.angular, 0)


def test_a_lost_hand_stops_the_robot_within_the_age_and_then_there_is_silence(play: Play) -> None:
    engaged(play)
    lost_at = play.t
    commands = play.run(1.0, 0.01, seen=False)
    moving = [command for command in commands if not command.stops]
    stops = commands[len(moving) :]
    assert all(command.age <= 0.25 + 1e-9 for command in moving)
    assert len(moving) * PERIOD / 2 <= 0.25 - LATENCY + 1e-9
    assert len(stops) == 5 and all(command.stops for command in stops)
    for command in stops:
        assert not command.linear.any() and not command.angular.any()
    assert play.bridge.state == "locked" and "0.25 s" in play.bridge.why
    assert play.t > lost_at


def test_after_a_loss_the_fingers_must_open_first(play: Play) -> None:
    engaged(play).run(0.5, 0.01, seen=False)
    assert play.run(0.5, 0.01) == []
    assert play.bridge.state == "locked"
    engaged(play)


def test_a_hand_that_appears_pinched_moves_nothing(play: Play) -> None:
    assert play.run(1.0, 0.01) == []


def test_opening_the_fingers_stops_at_once(play: Play) -> None:
    commands = engaged(play).run(0.4, 0.06)
    assert len(commands) == 5 and all(command.stops for command in commands)
    assert play.bridge.state == "open"


def test_between_the_two_distances_the_clutch_stays_as_it_was(play: Play) -> None:
    play.run(0.3, 0.1)
    assert play.run(0.3, 0.04) == []
    commands = engaged(play).run(0.3, 0.04)
    assert not any(command.stops for command in commands) and len(commands) == 18


UNKNOWN = np.full((6, 6), np.nan)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"covariance": np.diag([1e-2] + [1e-6] * 5)}, "uncertain"),
        ({"covariance": np.diag([1e-6] * 5 + [0.2])}, "uncertain"),
        ({"covariance": UNKNOWN}, "uncertain"),
        ({"T": np.full((4, 4), np.nan)}, "uncertain"),
        ({"pinch": math.nan}, "uncertain"),
        ({"extrapolated": True}, "extrapolated"),
        ({"stamp_ns": START_NS}, "too old"),
        ({"stamp_ns": START_NS + 10_000_000_000}, "from the future"),
    ],
    ids=["position", "rotation", "unknown", "nan", "pinch", "extrapolated", "old", "future"],
)
def test_what_is_not_believed_moves_nothing_and_is_counted(
    play: Play, changes: dict[str, Any], reason: str
) -> None:
    engaged(play)
    commands = play.run(0.5, **{"pinch": 0.01, **changes})
    assert [command.stops for command in commands[-5:]] == [True] * 5
    assert sum(not command.stops for command in commands) * PERIOD / 2 <= 0.25 - LATENCY + 1e-9
    assert play.bridge.refused[reason] == 15
    assert set(play.bridge.refused) == {reason}


def test_one_bad_sighting_is_bridged(play: Play) -> None:
    commands = engaged(play).run(PERIOD, 0.01, covariance=UNKNOWN)
    commands += play.run(0.3, 0.01)
    assert not any(command.stops for command in commands)
    np.testing.assert_allclose(commands[-1].linear, [0, 0.1, 0], atol=1e-3)


def test_predictions_are_followed_where_they_are_accepted() -> None:
    play = Play(ServoBridge(BridgeSettings(accept_extrapolated=True)))
    commands = engaged(play).run(0.3, 0.01, extrapolated=True)
    assert len(commands) == 18 and not any(command.stops for command in commands)


def test_opening_is_believed_even_of_an_uncertain_hand(play: Play) -> None:
    commands = engaged(play).run(0.2, 0.1, covariance=UNKNOWN)
    assert commands and all(command.stops for command in commands)


def test_the_same_message_again_is_not_new(play: Play) -> None:
    engaged(play)
    hand = play.sighting(play.t - LATENCY, 0.01)
    for _ in range(3):
        play.bridge.see([hand], START_NS + round(play.t * 1e9), play.t)
    assert play.bridge.refused["not newer"] == 2


def test_another_hand_never_takes_over(play: Play) -> None:
    commands = engaged(play).run(0.5, 0.01, track_id=8, confidence=1.0)
    assert commands[-1].stops and play.bridge.state == "locked"


def test_a_change_of_frame_stops(play: Play) -> None:
    commands = engaged(play).run(0.2, 0.01, frame_id="base")
    assert commands[0].stops and play.bridge.state == "locked"


def test_speed_and_acceleration_are_limited() -> None:
    settings = BridgeSettings(
        linear_scale=50.0, max_linear=0.2, max_linear_acceleration=0.5, max_angular=0.1
    )
    play = Play(ServoBridge(settings))
    play.run(0.3, 0.1)
    commands = play.run(1.0, 0.01)
    sent = np.array([np.append(command.linear, command.angular) for command in commands])
    speeds = np.linalg.norm(sent[:, :3], axis=1)
    assert speeds.max() == pytest.approx(0.2)
    steps = np.linalg.norm(np.diff(sent[:, :3], axis=0), axis=1)
    assert steps.max() <= 0.5 * PERIOD / 2 + 1e-9
    assert np.linalg.norm(sent[:, 3:], axis=1).max() <= 0.1 + 1e-9


def test_a_clock_that_goes_back_stops_and_then_works_again(play: Play) -> None:
    engaged(play)
    earlier = START_NS - 60_000_000_000
    command = play.bridge.command(earlier, play.t)
    assert command is not None and command.stops
    hand = replace(play.sighting(0.0, 0.1), stamp_ns=earlier + 10_000_000)
    play.bridge.see([hand], earlier + 50_000_000, play.t)
    assert play.bridge.state == "open" and not play.bridge.refused


def test_simulated_time_that_stands_still_stops(play: Play) -> None:
    engaged(play)
    now = START_NS + round(play.t * 1e9)
    commands = [play.bridge.command(now, play.t + k * 0.02) for k in range(40)]
    assert [c.stops for c in commands if c is not None][-5:] == [True] * 5
    assert commands[-1] is None


def test_settings_that_chatter_are_refused() -> None:
    with pytest.raises(ValueError, match=r"engage_below is 0.05.*release_above, 0.05"):
        BridgeSettings(engage_below=0.05)


def test_clamping_keeps_the_direction() -> None:
    np.testing.assert_allclose(clamped(np.array([3.0, 4.0, 0.0]), 1.0), [0.6, 0.8, 0.0])
    np.testing.assert_array_equal(clamped(np.zeros(3), 0.0), 0.0)
