"""Judging results: figures of a run, reports."""
