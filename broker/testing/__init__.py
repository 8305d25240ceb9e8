# SPDX-License-Identifier: GPL-2.0-or-later
"""Fakes that ship; the contract tests keep them honest."""
