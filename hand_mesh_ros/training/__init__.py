"""Training: recipes in YAML, data from renders or shards, Lightning around it all.

Nothing here is imported by the rooms below; Lightning and webdataset are the extra `train`.
"""
