"""The one metrics module: every figure that judges a hand is computed here.

`alignment` moves predictions onto truths as papers do, `position` measures in space, `pixels` in
images, `motion` in time; `uncertainty` asks whether covariances mean something, `occlusion` sorts
by visibility. All are vectorised over samples, in SI units; NaN means unknown and takes no part.
"""
