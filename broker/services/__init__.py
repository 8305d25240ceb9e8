# SPDX-License-Identifier: GPL-2.0-or-later
"""One use case a file: observe, plan, apply and what operators ask."""
