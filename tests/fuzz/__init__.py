# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated answers of devices against the collector's readers."""
