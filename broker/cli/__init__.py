# SPDX-License-Identifier: GPL-2.0-or-later
"""powermgr: sacctmgr's grammar for watts."""
