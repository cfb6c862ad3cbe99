"""Fetching: what is verified, what is refused, and what the user is told."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from hand_mesh_ros.networks import assets


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HAND_MESH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _wheel(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(assets.NETWORK_FILES[name].member, data)
        archive.writestr("mediapipe-0.10.21.dist-info/LICENSE", "Apache License")
    return path


def test_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HAND_MESH_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert assets.home() == Path("/somewhere/cache/hand_mesh_ros")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert assets.home() == Path.home() / ".cache" / "hand_mesh_ros"
    monkeypatch.setenv("HAND_MESH_HOME", "/data/hands")
    assert assets.home() == Path("/data/hands")


def test_an_absent_network_says_how_to_get_it(empty_home: Path) -> None:
    with pytest.raises(assets.AssetError, match="hand-mesh fetch"):
        assets.landmark_network_path("palm_detection_full")
    with pytest.raises(ValueError, match="hand_landmark_lite"):
        assets.landmark_network_path("face")


def test_a_damaged_network_is_not_used(empty_home: Path) -> None:
    path = empty_home / "landmarks" / "palm_detection_full.tflite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a file")
    with pytest.raises(assets.AssetError, match="damaged"):
        assets.landmark_network_path("palm_detection_full")


def test_a_wheel_with_other_networks_is_refused(empty_home: Path, tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "fake.whl", {name: b"something" for name in assets.NETWORK_FILES})
    with pytest.raises(assets.AssetError, match="SHA-256"):
        assets.fetch_landmark_networks(wheel=wheel)
    assert not list(empty_home.rglob("*.tflite"))


def test_a_file_that_is_no_wheel_is_refused(empty_home: Path, tmp_path: Path) -> None:
    (tmp_path / "text.whl").write_text("not a zip")
    with pytest.raises(assets.AssetError, match=r"text\.whl"):
        assets.fetch_landmark_networks(wheel=tmp_path / "text.whl")
    with pytest.raises(assets.AssetError, match=r"absent\.whl"):
        assets.fetch_landmark_networks(wheel=tmp_path / "absent.whl")


def test_without_a_network_pip_fails_with_advice(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(assets.AssetError, match="copy palm_detection_full"):
        assets.fetch_landmark_networks()


def test_a_wheel_brought_along_fills_the_cache(
    landmark_networks: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = {name: assets.landmark_network_path(name).read_bytes() for name in assets.NETWORK_FILES}
    wheel = _wheel(tmp_path / "mediapipe.whl", real)
    monkeypatch.setenv("HAND_MESH_HOME", str(tmp_path / "home"))
    said: list[str] = []
    paths = assets.fetch_landmark_networks(said.append, wheel)
    for name, path in paths.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == assets.NETWORK_FILES[name].sha256
        assert assets.landmark_network_path(name) == path
    folder = tmp_path / "home" / "landmarks"
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["LICENSE", *(f"{name}.tflite" for name in paths)]
    )
    wheel.unlink()
    assert assets.fetch_landmark_networks(said.append, wheel) == paths
    assert "already" in said[-1]
