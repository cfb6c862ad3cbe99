"""Hand models from files: MANO's pickle without chumpy, checkpoints, and files that mean harm."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from hand_mesh_ros.geometry.rotations import log_so3
from hand_mesh_ros.hand import loading
from hand_mesh_ros.hand.kinematics import forward
from hand_mesh_ros.hand.layout import TIP_SETS
from hand_mesh_ros.hand.model import HandModel, load_hand_model, smplx_max_difference
from hand_mesh_ros.hand.stand_ins import RefusedPickleError, plain
from hand_mesh_ros.hand.unpickle import load_pickle

Arrays = dict[str, Any]


def fake_mano(side: str = "right") -> Arrays:
    """778 points around the free hand's bones, in the shapes and types of MANO's file."""
    rng = np.random.default_rng(5)
    free = load_hand_model(side=side)
    chosen = np.sort(rng.choice(free.num_vertices, 778, replace=False))
    template = free.v_template[chosen]
    joints = free.J_regressor @ free.v_template
    near = np.argsort(np.linalg.norm(template - joints[:, None], axis=-1), axis=1)[:, :8]
    regressor = np.zeros((16, 778))
    np.put_along_axis(regressor, near, 1 / 8, axis=1)
    parents = np.where(free.parents < 0, 2**32 - 1, free.parents)
    return {
        "v_template": template,
        "shapedirs": free.shapedirs[chosen],
        "posedirs": rng.normal(0, 5e-4, (778, 3, 135)),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "weights": free.lbs_weights[chosen],
        "kintree_table": np.stack([parents, np.arange(16)]).astype(np.uint32),
        "f": rng.permuted(np.tile(np.arange(778), (1538, 1)), axis=1)[:, :3].astype(np.uint32),
        "hands_mean": rng.normal(0, 0.1, 45),
        "hands_components": np.linalg.qr(rng.normal(size=(45, 45)))[0],
        "hands_coeffs": rng.normal(size=(1554, 45)),
        "J": joints,
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def expected(arrays: Arrays) -> Arrays:
    """The arrays under this package's names."""
    return {
        "v_template": arrays["v_template"],
        "shapedirs": arrays["shapedirs"],
        "posedirs": arrays["posedirs"].reshape(3 * 778, 135).T,
        "J_regressor": arrays["J_regressor"].toarray(),
        "lbs_weights": arrays["weights"],
        "faces": arrays["f"],
        "hands_mean": arrays["hands_mean"],
        "hands_components": arrays["hands_components"],
        "tips": TIP_SETS["mano"],
    }


@contextmanager
def modules(*classes: type) -> Iterator[None]:
    """Modules of the classes' names for as long as something is pickled."""
    before = dict(sys.modules)
    for cls in classes:
        parts = cls.__module__.split(".")
        for k in range(1, len(parts) + 1):
            name = ".".join(parts[:k])
            sys.modules[name] = sys.modules.get(name, types.ModuleType(name))
        setattr(sys.modules[cls.__module__], cls.__name__, cls)
    try:
        yield
    finally:
        for name in sys.modules.keys() - before.keys():
            del sys.modules[name]


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did: both as its one kind of string."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def _string(self, content: bytes) -> None:
        self.write(b"T" + struct.pack("<i", len(content)) + content)

    def save_bytes(self, value: bytes) -> None:
        self._string(value)
        self.memoize(value)

    def save_str(self, value: str) -> None:
        self._string(value.encode())
        self.memoize(value)

    dispatch[bytes], dispatch[str] = save_bytes, save_str


def chumpy_pickle(arrays: Arrays) -> bytes:
    """The bytes of a MANO file: protocol 2, chumpy objects, SciPy's and NumPy's old modules."""
    Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    Select = type("Select", (Ch,), {"__module__": "chumpy.reordering"})
    csc = type("csc_matrix", (), {"__module__": "scipy.sparse.old_csc"})

    def ch(cls: type, **state: Any) -> Any:
        made = cls()
        vars(made).update(_dirty_vars={"x"}, _itr=None, _make_dense=False, _depends_on_deps={})
        vars(made).update(state)
        return made

    full = arrays["shapedirs"]
    wider = np.concatenate([full, np.zeros((778, 3, 5))], axis=2)
    kept = np.arange(wider.size).reshape(wider.shape)[..., :10].ravel()
    content = dict(arrays)
    content["posedirs"] = ch(Ch, x=arrays["posedirs"])
    content["shapedirs"] = ch(
        Select, a=ch(Ch, x=wider), idxs=kept, preferred_shape=full.shape, _dr_cached=None
    )
    sparse = csc()
    vars(sparse).update(
        {k: getattr(arrays["J_regressor"], k) for k in ("data", "indices", "indptr")}
    )
    vars(sparse).update(_shape=(16, 778), maxprint=50)
    content["J_regressor"] = sparse
    buffer = io.BytesIO()
    with modules(Ch, Select, csc):
        Python2Pickler(buffer, protocol=2).dump(content)
    written = buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    written = written.replace(b"scipy.sparse.old_csc", b"scipy.sparse.csc")
    assert b"cchumpy.reordering\nSelect\n" in written and b"ccopy_reg" not in written
    return written


@pytest.fixture(scope="module")
def mano_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both hands in every kind of file."""
    folder = tmp_path_factory.mktemp("mano")
    for side in ("right", "left"):
        arrays = fake_mano(side)
        (folder / f"MANO_{side.upper()}.pkl").write_bytes(chumpy_pickle(arrays))
        for protocol in range(6):
            path = folder / f"saved_again_{protocol}_{side}.pkl"
            path.write_bytes(pickle.dumps(arrays, protocol=protocol))
        dense = {**arrays, "J_regressor": arrays["J_regressor"].toarray()}
        np.savez(folder / f"mano_{side}.npz", **dense)
    return folder


def check(model: HandModel, arrays: Arrays) -> None:
    for name, value in expected(arrays).items():
        np.testing.assert_allclose(getattr(model, name), value, atol=1e-12, err_msg=name)
    assert smplx_max_difference(model, count=8) < 1e-5


@pytest.mark.parametrize("side", ["right", "left"])
def test_original_pickle_loads_without_chumpy(mano_files: Path, side: Any) -> None:
    assert not [name for name in sys.modules if name.startswith("chumpy")]
    model = load_hand_model(mano_files / f"MANO_{side.upper()}.pkl", side=side)
    assert model.side == side and model.model_id == f"mano_{side}"
    check(model, fake_mano(side))
    assert not [name for name in sys.modules if name.startswith("chumpy")]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [*(f"saved_again_{n}_{{}}.pkl" for n in range(6)), "mano_{}.npz"])
def test_every_protocol_and_npz(mano_files: Path, name: str, side: Any) -> None:
    check(load_hand_model(mano_files / name.format(side), side=side), fake_mano(side))


def checkpoint_state(arrays: Arrays) -> dict[str, torch.Tensor]:
    names = {"lbs_weights": "weights", "faces_tensor": "f", "hand_mean": "hands_mean"}
    want = expected(arrays)
    plain_names = ("v_template", "shapedirs", "posedirs", "J_regressor", "lbs_weights")
    state = {f"mano.{name}": torch.tensor(want[name]).float() for name in plain_names}
    for theirs, ours in names.items():
        state[f"mano.{theirs}"] = torch.tensor(arrays[ours].astype(np.float64))
    state["mano.faces_tensor"] = torch.tensor(arrays["f"].astype(np.int64))
    state["mano.parents"] = torch.tensor([-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14])
    state["mano.extra_joints_idxs"] = torch.tensor(TIP_SETS["freihand"])
    state["backbone.weight"] = torch.zeros(3, 3).T
    return state


@pytest.mark.parametrize("config", [False, True], ids=["plain", "with configuration objects"])
def test_checkpoint(tmp_path: Path, config: bool) -> None:
    arrays = fake_mano()
    CfgNode = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    content: dict[str, Any] = {"state_dict": checkpoint_state(arrays), "epoch": 3}
    path = tmp_path / "hamer.ckpt"
    with modules(CfgNode):
        if config:
            cfg = CfgNode(MODEL=CfgNode(TYPE="vit", SIZES=[1, 2]))
            cfg.__dict__["frozen"] = True
            content["hyper_parameters"] = {"cfg": cfg, "folder": Path("somewhere")}
        torch.save(content, path)
    model = load_hand_model(path)
    assert model.side == "right" and model.tips.tolist() == list(TIP_SETS["freihand"])
    np.testing.assert_allclose(model.posedirs, expected(arrays)["posedirs"], atol=1e-6)
    np.testing.assert_allclose(model.hands_mean, arrays["hands_mean"])
    assert smplx_max_difference(model, count=8) < 1e-5
    assert load_hand_model(path, tips="manopth").tips.tolist() == list(TIP_SETS["manopth"])


@pytest.mark.parametrize("name", ["hamer_tiny.pt", "wilor_tiny.pt"])
def test_published_layout(shared_data: Path, name: str) -> None:
    model = load_hand_model(shared_data / "parity" / name)
    assert model.num_vertices == 778 and model.side == "right"
    assert model.hands_components is not None and model.hands_components.shape == (6, 45)
    for hand in (model, load_hand_model(shared_data / "parity" / name, side="left")):
        assert smplx_max_difference(hand) < 1e-5


def test_hand_of_a_checkpoint_is_the_one_its_network_poses(shared_data: Path) -> None:
    """HaMeR's own vertices and joints, from its rotation matrices through our axis-angles."""
    model = load_hand_model(shared_data / "parity" / "hamer_tiny.pt")
    with np.load(shared_data / "parity" / "hamer_tiny_io.npz") as io_arrays:
        arrays = {key: io_arrays[key].astype(float) for key in io_arrays if "pred_" in key}
    orient, pose = (
        log_so3(arrays[f"pred_mano_params.{name}"]).reshape(2, -1)
        for name in ("global_orient", "hand_pose")
    )
    posed = forward(model, orient, pose, arrays["pred_mano_params.betas"], np.zeros((2, 3)))
    np.testing.assert_allclose(posed.vertices, arrays["pred_vertices"], atol=1e-5)
    np.testing.assert_allclose(posed.joints, arrays["pred_keypoints_3d"], atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_free_hand_is_what_smplx_says(side: Any) -> None:
    assert smplx_max_difference(load_hand_model(side=side)) < 1e-5


# --- Files that mean harm -------------------------------------------------------------------


class Reduces:
    """An object that asks to call `function(*args)` when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any, state: Any = None) -> None:
        self._answer = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self._answer


def array_with(hidden: Any) -> bytes:
    array = np.empty(1, dtype=object)
    array[0] = hidden
    return pickle.dumps({"v_template": array}, protocol=2)


def chumpy_with(hidden: Any) -> bytes:
    Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    made = Ch()
    vars(made).update(x=np.zeros(3), __setstate__=hidden, __class__=hidden)
    with modules(Ch):
        return pickle.dumps({"v_template": made}, protocol=2)


ATTACKS: dict[str, Callable[[str], bytes]] = {
    "a function of the system": lambda to: pickle.dumps(Reduces(os.mkdir, to)),
    "a shell": lambda to: pickle.dumps(Reduces(os.system, f"mkdir '{to}'"), protocol=2),
    "eval": lambda to: pickle.dumps(Reduces(eval, f"__import__('os').mkdir({to!r})")),
    "exec, protocol 0": lambda to: pickle.dumps(
        Reduces(exec, f"import os; os.mkdir({to!r})"), protocol=0
    ),
    "inside a list in a dictionary": lambda to: pickle.dumps(
        {"v_template": np.zeros(3), "f": [1, {"x": (Reduces(os.mkdir, to),)}]}, protocol=2
    ),
    "inside another call": lambda to: pickle.dumps(
        Reduces(set, [Reduces(os.mkdir, to)]), protocol=2
    ),
    "inside an array of objects": lambda to: array_with(Reduces(os.mkdir, to)),
    "inside a chumpy object": lambda to: chumpy_with(Reduces(os.mkdir, to)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, attack: str) -> None:
    control, target = tmp_path / "control", tmp_path / "target"
    if attack != "inside a chumpy object":  # which cannot be unpickled here without chumpy
        pickle.loads(ATTACKS[attack](str(control)))
        assert control.is_dir(), "the attack does nothing even where it is let in"
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(ATTACKS[attack](str(target)))
    with pytest.raises(RefusedPickleError, match="nothing was executed.*mano.is.tue.mpg.de"):
        load_hand_model(path)
    assert not target.exists()


def test_a_hostile_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "hamer.ckpt"
    torch.save({"state_dict": {}, "hyper_parameters": Reduces(os.mkdir, str(target))}, path)
    with pytest.raises(RefusedPickleError, match="nothing was executed"):
        load_hand_model(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.is_dir()


GLOBAL, BUILD, REDUCE, STOP = b"c", b"b", b"R", b"."
HOSTILE: dict[str, bytes] = {
    "changes a function": b"c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.",
    "changes a class": b"cchumpy.ch\nCh\n}X\x01\x00\x00\x00aK\x01sb.",
    "changes a class's slots": b"cchumpy.ch\nCh\nN}X\x08\x00\x00\x00__init__K\x01s\x86b.",
    "changes a type": b"c__builtin__\nset\n}X\x01\x00\x00\x00aK\x01sb.",
    "walks attributes": (
        b"\x80\x04\x8c\x09chumpy.ch\x8c\x17Ch.__init__.__globals__\x93."
    ),
    "looks for getattr": b"c__builtin__\ngetattr\n.",
    "loads an array file": b"cnumpy\nload\n(S'x.npy'\ntR.",
    "runs a string": b"cnumpy.testing._private.utils\nrunstring\n.",
    "refers outside": b"Pabc\n.",
    "uses an extension code": b"\x82\x01.",
    "makes a foreign object": (
        b"ccopy_reg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR."
    ),
    "stops too early": b"\x80\x02}",
    "is no pickle": b"hello",
    "is empty": b"",
    "remembers too much": b"\x80\x02Nr\xff\xff\xff\x7f.",
}  # fmt: skip


@pytest.mark.parametrize("program", HOSTILE)
def test_crooked_programs_are_refused(program: str) -> None:
    with pytest.raises(RefusedPickleError):
        load_pickle(io.BytesIO(HOSTILE[program]))


def rewritten(array: np.ndarray, old: bytes, new: bytes) -> Any:
    content = pickle.dumps(array, protocol=2)
    assert old in content
    return load_pickle(io.BytesIO(content.replace(old, new, 1)))


def test_arrays_of_anything_but_numbers_are_refused() -> None:
    good = pickle.dumps(np.arange(3.0), protocol=2)
    np.testing.assert_array_equal(plain(load_pickle(io.BytesIO(good))), np.arange(3.0))
    with pytest.raises(RefusedPickleError, match="not plain numbers"):
        plain(rewritten(np.arange(3.0), b"f8", b"O8"))  # raw bytes taken for pointers
    with pytest.raises(RefusedPickleError, match="fill its shape"):
        plain(rewritten(np.arange(3.0), b"K\x03\x85", b"K\x04\x85"))
    with pytest.raises(RefusedPickleError):
        plain(rewritten(np.arange(3.0), b"K\x03\x85", b"J\xff\xff\xff\xff\x85"))
    with pytest.raises(RefusedPickleError, match="list where an array"):
        plain([[1.0, 2.0]])
    matrix = pickle.dumps(scipy.sparse.csc_matrix(np.eye(3)), protocol=2)
    np.testing.assert_array_equal(plain(load_pickle(io.BytesIO(matrix))), np.eye(3))
    for part, numbers in (("indices", [0, 1, 7]), ("indices", [0, 1, -1]), ("indptr", [0, 1, 2, 4]),
                          ("indptr", [0, 1 << 40, 2, 3]), ("indptr", [0, 3])):  # fmt: skip
        sparse = scipy.sparse.csc_matrix(np.eye(3))
        setattr(sparse, part, np.array(numbers))
        with pytest.raises(RefusedPickleError):
            plain(load_pickle(io.BytesIO(pickle.dumps(sparse, protocol=2))))


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_of_every_layout(byte_order: str, order: Any, protocol: int) -> None:
    array = np.asarray(np.arange(24.0).reshape(2, 3, 4), dtype=f"{byte_order}f4", order=order)
    content = {"a": array, "n": np.float64(2.5), "b": np.array([True, False])}
    read = load_pickle(io.BytesIO(pickle.dumps(content, protocol=protocol)))
    for name, value in content.items():
        np.testing.assert_array_equal(plain(read[name]), value)


# --- Files that are wrong -------------------------------------------------------------------


def test_the_wrong_hand_is_found_out(
    mano_files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = (mano_files / "MANO_LEFT.pkl").read_bytes()
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(left)
    with pytest.raises(ValueError, match=r"name says right, .*\+x.*as a left hand's"):
        load_hand_model(tmp_path / "MANO_RIGHT.pkl")
    (tmp_path / "hand.pkl").write_bytes(left)
    assert not caplog.records
    mirrored = load_hand_model(tmp_path / "hand.pkl", side="right")
    assert mirrored.side == "right" and mirrored.model_id == "mano_left_mirrored"
    assert "holds a left hand; mirrored into a right one" in caplog.text
    right = fake_mano()
    np.testing.assert_allclose(mirrored.v_template, right["v_template"], atol=1e-12)
    dense = {**right, "J_regressor": right["J_regressor"].toarray(), "side": "left"}
    np.savez(tmp_path / "stated.npz", **dense)
    with pytest.raises(ValueError, match="side says left"):
        load_hand_model(tmp_path / "stated.npz", side="left")


def test_errors_say_what_is_wrong_and_where_to_get_a_right_one(tmp_path: Path) -> None:
    arrays = fake_mano()

    def refuse(match: str, name: str = "MANO_RIGHT.pkl", **changes: Any) -> None:
        path = tmp_path / name
        path.write_bytes(pickle.dumps({**arrays, **changes}, protocol=2))
        with pytest.raises(ValueError, match=rf"(?s){name}.*{match}.*https://mano.*licence"):
            load_hand_model(path)

    with pytest.raises(FileNotFoundError, match="nowhere.*https://mano.*registration"):
        load_hand_model(tmp_path / "nowhere.pkl")
    refuse("not a known kind of file; expected MANO_RIGHT.pkl", name="mano.obj")
    refuse("shapedirs has shape .* expected", shapedirs=arrays["shapedirs"][:-1])
    refuse("v_template is not finite", v_template=np.full((778, 3), np.nan))
    refuse("parents .* are not MANO's", kintree_table=np.zeros((2, 16), dtype=np.uint32))
    refuse("v_template: a single number", v_template=3.0)
    refuse("777 vertices", v_template=arrays["v_template"][1:])
    refuse("'weights': str where an array", weights="none")
    (tmp_path / "page.pkl").write_bytes(b"<html>please log in</html>")
    with pytest.raises(ValueError, match="web page"):
        load_hand_model(tmp_path / "page.pkl")
    del arrays["weights"], arrays["f"]
    refuse("weights, f missing; expected v_template")


def test_checkpoints_without_a_hand(tmp_path: Path) -> None:
    torch.save({"state_dict": {"backbone.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="no MANO buffers"):
        load_hand_model(tmp_path / "other.pt")
    (tmp_path / "broken.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="no PyTorch checkpoint"):
        load_hand_model(tmp_path / "broken.ckpt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="no state dict"):
        load_hand_model(tmp_path / "list.pt")


def test_fingertip_sets(mano_files: Path) -> None:
    path = mano_files / "MANO_RIGHT.pkl"
    for name, ids in TIP_SETS.items():
        assert load_hand_model(path, tips=name).tips.tolist() == list(ids)
    with pytest.raises(ValueError, match="'nails' is unknown; choose one of mano"):
        load_hand_model(path, tips="nails")
    with pytest.raises(ValueError, match="1650 vertices"):
        load_hand_model(tips="mano")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "hand.pkl"
    arrays = fake_mano()
    path.write_bytes(pickle.dumps(arrays))
    first = load_hand_model(path)
    assert load_hand_model(path) is first
    arrays["v_template"] = arrays["v_template"] + 1e-3
    path.write_bytes(pickle.dumps(arrays) + b"#")
    assert load_hand_model(path).v_template[0, 0] == pytest.approx(first.v_template[0, 0] + 1e-3)


def test_where_to_get_it_names_site_and_licence() -> None:
    assert "mano.is.tue.mpg.de" in loading.WHERE and "licence" in loading.WHERE
