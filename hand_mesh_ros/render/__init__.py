"""From meshes to pictures: the rasteriser, shading, overlays, sheets and the synthetic cell."""
