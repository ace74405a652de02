"""The error that a user sees as one line, without a stack trace."""

from __future__ import annotations


class ExperimentError(Exception):
    """Something the user can put right: a configuration, a folder, a damaged file."""
