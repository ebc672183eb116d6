"""Hydra plug-ins of the runner; Hydra finds them by their namespace."""
