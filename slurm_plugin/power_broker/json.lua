-- SPDX-License-Identifier: GPL-2.0-or-later
-- Writes flat JSON objects with their keys in order. Reading is envelope.lua's business.
local json = {}

-- Bytes outside ASCII become ?: Slurm does not promise UTF-8, JSON demands it.
local function quoted(value)
    local clean = string.gsub(value, "[\128-\255]", "?")
    clean = string.gsub(clean, "[%c\"\\]", function(char)
        return string.format("\\u%04x", string.byte(char))
    end)
    return '"' .. clean .. '"'
end

local function encoded(value)
    if type(value) == "string" then return quoted(value) end
    if type(value) == "number" then return string.format("%d", value) end
    if type(value) == "boolean" then return value and "true" or "false" end
    return "null"
end

-- pairs: a list of {key, value}; a value of nil is written as null.
function json.object(pairs_in_order)
    local parts = {}
    for index, pair in ipairs(pairs_in_order) do
        parts[index] = quoted(pair[1]) .. ":" .. encoded(pair[2])
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

return json
