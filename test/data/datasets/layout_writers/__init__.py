"""Miniature copies of data sets, written from their publishers' descriptions.

Nothing here uses the readers or the functions that they convert with: hands are posed by smplx,
with its own mean pose and components, and moved, projected and ordered by hand.
"""
