"""Claims about AMVUR that short trainings tell: each with its rule, on means over seeds.

Rules tolerate nothing; how far seeds are apart is told beside the means, as standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from hand_mesh_ros.evaluation.amvur_outcomes import Outcome, Row, standard_error
from hand_mesh_ros.evaluation.amvur_seeds import BIN_NAMES, Trained
from hand_mesh_ros.evaluation.amvur_trials import Trial
from hand_mesh_ros.networks.amvur import AmvurSettings
from hand_mesh_ros.training.amvur_objectives import AmvurWeights

SHARES: Final = (0.01, 0.05, 0.25, 1.0)
_SCARCE: Final = 0.05
_PA = ("pa_mm", "pa_se", "prior_pa_mm", "prior_pa_se")
_LIKELY = ("nll", "nll_se", "nees", "pinch_nees", "pinch_nees_se", "coverage_68", "pa_mm", "pa_se")


def trials() -> dict[str, Trial]:
    """All trainings, by name."""
    base = AmvurSettings()
    alone = replace(base, prior=False)
    untied = AmvurWeights(kl=0.0)
    made = {f"tied {s:.0%}": Trial(base, share=s) for s in SHARES}
    made |= {f"alone {s:.0%}": Trial(alone, untied, s) for s in SHARES}
    made |= {f"cross {c}": Trial(replace(base, cross=c)) for c in ("none", "one_way")}
    made |= {f"depth {d}": Trial(replace(base, depth=d)) for d in (0, 2)}
    made |= {
        f"form {f}": Trial(replace(base, covariance=f))
        for f in ("diagonal", "propagated", "mixing")
    }
    seen = replace(base, uv="projected", covariance="propagated")
    bound = AmvurWeights(objective="weak")
    made["weak"] = Trial(seen, bound)
    made["weak without limits"] = Trial(seen, replace(bound, limits=0.0))
    made["weak without prior"] = Trial(seen, replace(bound, bound=0.0, bones=0.0))
    return made


def trained_claims(found: Trained) -> list[Outcome]:
    """Of all of `trials`."""
    rows = {name: found.mean(name) for name in found.rows}
    return [_scarce(rows), _occluded(found), *_structure(rows), _weak(rows), _forms(rows)]


def _scarce(rows: dict[str, Row]) -> Outcome:
    pa = {name: row["pa_mm"] for name, row in rows.items()}
    lead = {s: pa[f"alone {s:.0%}"] - pa[f"tied {s:.0%}"] for s in SHARES}
    few = [s for s in SHARES if s <= _SCARCE]
    best = all(
        lead[s] > 0 and pa[f"tied {s:.0%}"] <= rows[f"tied {s:.0%}"]["prior_pa_mm"] for s in few
    )
    return Outcome(
        "The prior helps when labels are scarce",
        "prior with regressor best at 5 % of labels or fewer; its lead shrinks at 100 %",
        best and lead[1.0] < max(lead[s] for s in few),
        _some(rows, [f"{kind} {s:.0%}" for s in SHARES for kind in ("tied", "alone")]),
    )


def _occluded(found: Trained) -> Outcome:
    tied, alone = found.bins["tied 100%"], found.bins["alone 100%"]
    lead = alone - tied  # of the same seeds
    columns = {"tied": tied.mean(0), "alone": alone.mean(0), "lead": lead.mean(0)}
    if len(found.seeds) > 1:
        columns["lead_se"] = standard_error(lead)
    return Outcome(
        "The prior helps under occlusion",
        "its lead, mm, is larger where less of the hand is seen",
        bool(columns["lead"][0] > columns["lead"][-1]),
        {
            name: {key: float(values[i]) for key, values in columns.items()}
            for i, name in enumerate(BIN_NAMES)
        },
    )


def _structure(rows: dict[str, Row]) -> list[Outcome]:
    pa = {name: row["pa_mm"] for name, row in rows.items()}
    return [
        Outcome(
            "Cross-attention from vertices to joints helps",
            "one way no worse than none",
            pa["cross one_way"] <= pa["cross none"],
            _some(rows, ["cross none", "cross one_way", "tied 100%"]),
        ),
        Outcome(
            "Self-attention of vertices helps",
            "depth 0, 1, 2 no worse from one to the next",
            pa["depth 0"] >= pa["tied 100%"] >= pa["depth 2"],
            _some(rows, ["depth 0", "tied 100%", "depth 2"]),
        ),
    ]


def _weak(rows: dict[str, Row]) -> Outcome:
    pa = {name: row["pa_mm"] for name, row in rows.items()}
    return Outcome(
        "2D labels alone will do",
        "within 1.5 times the supervised error; worse without limits and without prior",
        pa["weak"] <= 1.5 * pa["tied 100%"]
        and min(pa["weak without limits"], pa["weak without prior"]) > pa["weak"],
        _some(rows, ["tied 100%", "weak", "weak without limits", "weak without prior"]),
    )


def _forms(rows: dict[str, Row]) -> Outcome:
    forms = {"full": "tied 100%"} | {f: f"form {f}" for f in ("diagonal", "propagated", "mixing")}
    found = {form: rows[name] for form, name in forms.items()}
    # how many times too large or too small
    off = {form: abs(np.log(row["pinch_nees"])) for form, row in found.items()}
    return Outcome(
        "A covariance's form matters",
        "full likeliest; a pinch's NEES/3 by a diagonal further from 1 than by a full one",
        found["full"]["nll"] <= min(row["nll"] for row in found.values())
        and bool(off["diagonal"] > off["full"]),
        _some(found, list(forms), _LIKELY),
    )


def _some(rows: dict[str, Row], names: Sequence[str], keys: Sequence[str] = _PA) -> dict[str, Row]:
    return {name: {key: rows[name][key] for key in keys if key in rows[name]} for name in names}
