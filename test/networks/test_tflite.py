"""The reader of TFLite files against LiteRT on the same files."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema

from hand_mesh_ros.networks.assets import NETWORK_FILES, landmark_network_path
from hand_mesh_ros.networks.landmarks import HandLandmarker, rois_from_palms
from hand_mesh_ros.networks.palm import PalmDetector
from hand_mesh_ros.networks.runtime import load_network
from hand_mesh_ros.networks.tflite import UnsupportedOperatorError, load_tflite


@pytest.mark.parametrize("name", NETWORK_FILES)
def test_both_runtimes_agree_on_noise_and_on_a_drawing(
    landmark_networks: None, drawn_hand: np.ndarray, rng: np.random.Generator, name: str
) -> None:
    litert, ours = load_network(name), load_network(name, "torch")
    size = litert.size
    noise = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    crops = np.stack([noise, cv2.resize(drawn_hand, (size, size)), np.zeros_like(noise)])
    outputs = zip(litert(crops), ours(crops), strict=True)
    for expected, output in outputs:
        assert output.shape == expected.shape
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=2e-3)


def test_both_runtimes_agree_on_every_photograph(
    landmark_networks: None, shared_data: Path
) -> None:
    paths = sorted((shared_data / "gestures").glob("*/*.jpg"))
    assert len(paths) >= 40
    litert, ours = PalmDetector("litert"), PalmDetector("torch")
    litert_hands, our_hands = HandLandmarker("litert"), HandLandmarker("torch")
    distances = []
    for path in paths:
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        (expected,), (palms,) = litert.detect([image]), ours.detect([image])
        assert len(palms) == len(expected), path.name
        np.testing.assert_allclose(palms.scores, expected.scores, atol=1e-3)
        np.testing.assert_allclose(palms.boxes, expected.boxes, atol=0.5)
        hands = our_hands(image, rois_from_palms(palms))
        theirs = litert_hands(image, rois_from_palms(expected))
        distances.append(np.linalg.norm(hands.uv - theirs.uv, axis=-1).ravel())
        np.testing.assert_allclose(hands.presence, theirs.presence, atol=1e-2)
    assert np.percentile(np.concatenate(distances), 99) < 0.5


def test_the_trunk_gives_features_with_gradients(landmark_networks: None) -> None:
    landmarker = HandLandmarker("torch")
    crops = torch.rand(2, 3, 224, 224, requires_grad=True)
    features = landmarker.features(crops)
    assert features.shape == (2, 1152, 7, 7)
    features[0].sum().backward()
    assert crops.grad is not None
    assert crops.grad[0].abs().max() > 0 and crops.grad[1].abs().max() == 0
    with pytest.raises(TypeError, match="torch"):
        HandLandmarker("litert").features(crops)


def test_a_module_survives_a_copy_and_a_pickle(landmark_networks: None) -> None:
    module = load_tflite(landmark_network_path("hand_landmark_lite"))
    again = pickle.loads(pickle.dumps(module))
    crops = torch.rand(1, 3, 224, 224)
    with torch.inference_mode():
        for expected, output in zip(module(crops), again(crops), strict=True):
            torch.testing.assert_close(output, expected)


def test_a_network_without_a_trunk_says_so(landmark_networks: None) -> None:
    module = load_tflite(landmark_network_path("palm_detection_lite"))
    with pytest.raises(ValueError, match="trunk"):
        module.features(torch.zeros(1, 3, 192, 192))


def test_an_unknown_operator_is_named(landmark_networks: None, tmp_path: Path) -> None:
    data = landmark_network_path("hand_landmark_lite").read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data)
    for code in model.operatorCodes:
        if schema.BuiltinOperator.MEAN in (code.builtinCode, code.deprecatedBuiltinCode):
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "changed.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(UnsupportedOperatorError, match=r"changed\.tflite.*SOFTMAX"):
        load_tflite(path)


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("hello, hello")
    with pytest.raises(ValueError, match=r"text\.tflite"):
        load_tflite(tmp_path / "text.tflite")
