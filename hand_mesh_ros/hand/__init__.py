"""The hand model room: MANO's layout, loading, kinematics, mirroring, limits and the solver.

MANO's own joint order exists only inside this room; everything outside uses OpenPose-21.
Nothing heavy is imported here: `smplx`, `torch` and `anny` are imported where they are needed.
"""
