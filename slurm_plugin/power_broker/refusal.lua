-- SPDX-License-Identifier: GPL-2.0-or-later
-- A "no" with its reason code travels as an error value; anything else that is raised is a bug.
local refusal = {}

function refusal.raise(reason, because, fits)
    error({ refused = true, reason = reason, because = because, fits = fits or "never" }, 0)
end

function refusal.is(value)
    return type(value) == "table" and value.refused == true
end

return refusal
